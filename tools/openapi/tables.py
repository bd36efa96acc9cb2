"""The tables of error codes in the documents, made from `loader.errors` and the table of statuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from loader.errors import BY_CODE, LoaderError

from .document import application, codes_of
from .operations import UNLOCK_CODES
from .problems import meaning_of, status_of

DOCS = Path(__file__).parents[2] / "docs"
HTTP_API = DOCS / "http-api.md"
OPERATIONS_MANUAL = DOCS / "operations.md"
START = "<!-- error codes: written by python -m tools.openapi -->"
END = "<!-- end of error codes -->"


def tables() -> dict[Path, str]:
    """Return the table of error codes by the document that holds it."""
    return {HTTP_API: http_table(codes_of(application())), OPERATIONS_MANUAL: unlock_table()}


def http_table(codes: Iterable[str]) -> str:
    """Return the table of the codes of HTTP responses, in the order of `loader.errors`, general codes last."""
    rows = [f"| {code} | {status_of(code)} | {meaning_of(code)} |" for code in sorted(codes, key=_position)]
    return "\n".join(["| code | status | meaning |", "|---|---|---|", *rows])


def unlock_table() -> str:
    """Return the table of the codes with which an unlock can end."""
    rows = []
    for code in UNLOCK_CODES:
        kind = BY_CODE[code]
        rows.append(f"| {code} | {meaning_of(code)} | {'yes' if kind.retryable else 'no'} | {kind.hint} |")
    return "\n".join(["| code | meaning | again | hint |", "|---|---|---|---|", *rows])


def with_table(text: str, table: str) -> str:
    """Return `text` with `table` between its two markers. Raises ValueError unless it has them once."""
    found, count = re.subn(f"{START}\n.*?{END}", lambda _: f"{START}\n{table}\n{END}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected the markers of one table, found {count}")
    return found


def _position(code: str) -> tuple[int, str]:
    specific = [known for known in BY_CODE if known != LoaderError.code]
    return (specific.index(code) if code in specific else len(specific), code)
