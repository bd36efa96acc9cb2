"""Problems: which code has which status, what it means, and what its answer looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from loader.errors import LoaderError
from loader.web.replies import STATUS_BY_CODE
from loader.web.schemas import Problem

MANUAL = Path(__file__).parents[2] / "docs" / "http-api.md"
WITH_RETRY_AFTER = frozenset({"BUSY", "LOGIN_THROTTLED"})

_WITH_ERRORS = "VALIDATION_FAILED"


def status_of(code: str) -> int:
    """The status of its answers; raises KeyError for a code that does not exist.

    What Flask itself refuses has the name of its status as its code.
    """
    return STATUS_BY_CODE[code] if code in STATUS_BY_CODE else HTTPStatus[code].value


def responses(codes: Iterable[str]) -> dict[str, Any]:
    """The answers that have these codes, by status."""
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(status_of(code), []).append(code)
    return {str(status): _response(found) for status, found in sorted(by_status.items())}


def example(code: str) -> dict[str, Any]:
    """An answer with this code."""
    meaning = _MEANINGS[code]
    status = status_of(code)
    document = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{meaning[0].upper()}{meaning[1:]}.",
        "code": code,
        "retryable": code in _RETRYABLE,
    }
    if code == _WITH_ERRORS:
        document["errors"] = {"filename": ["Missing data for required field."]}
    return {"summary": meaning, "value": document}


def _response(codes: list[str]) -> dict[str, Any]:
    narrowed: dict[str, Any] = {"properties": {"code": {"enum": codes}}}
    if codes == [_WITH_ERRORS]:
        narrowed["required"] = ["errors"]
    response: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {_MEANINGS[code]}" for code in codes) + ".",
        "content": {
            "application/problem+json": {
                "schema": {"allOf": [Problem, narrowed]},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }
    if WITH_RETRY_AFTER.intersection(codes):
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the same request is sent again.",
                "required": WITH_RETRY_AFTER.issuperset(codes),
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return response


def _kinds(kind: type[LoaderError]) -> Iterator[type[LoaderError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


_RETRYABLE = {kind.code for kind in _kinds(LoaderError) if kind.retryable}
# The manual's table of errors.
_MEANINGS = dict(re.findall(r"^\| ([A-Z_]+) \| \d{3} \| (.+) \|$", MANUAL.read_text(), re.MULTILINE))
