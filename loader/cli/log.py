"""`azaion-loader log`: who did what on this device, from the log of the loader."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from loader.cli.audit_log import AuditLine, audit_lines, opened
from loader.cli.output import json_option, print_result, size_text

COLUMNS = ("when", "event", "outcome", "user", "client", "version", "file", "bytes", "seconds", "why")
NO_LOG = (
    "Give a LOGFILE, or the log on standard input: journalctl --output=cat --unit azaion-loader | azaion-loader log"
)
# Names of models are rarely longer. A client may ask for a name of some thousand characters.
WIDEST = 64
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"([0-9]{1,5})([mhd])")


class Since(click.ParamType[datetime]):
    """A moment: `30m`, `24h` or `7d` ago, or a date or time of ISO 8601, local without a time zone."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment with a time zone."""
        if isinstance(value, datetime):
            return value
        if ago := _AGO.fullmatch(value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither like 24h or 7d nor like 2026-02-28T18:00", param, ctx)


@click.command()
@click.argument("files", metavar="[LOGFILE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--since", type=Since(), default="24h", show_default=True, help="Like 30m, 24h, 7d or 2026-02-28T18:00.")
@json_option
def log(files: tuple[Path, ...], since: datetime) -> None:
    """Tell who did what on this device, when and why not, from the log of the loader.

    The log comes from each LOGFILE, also rotated ones; those that end in .gz are unpacked. Without one it comes from
    standard input:

    \b
      journalctl --output=cat --unit azaion-loader | azaion-loader log
      docker compose logs --no-log-prefix loader | azaion-loader log

    There is a line for each start, login, lock, load, upload, fetch, unlock, cancel and way back, also if it was
    refused. Times are in UTC.
    """
    try:
        lines = [line for line in _all_lines(files) if line.when >= since]
    except (EOFError, zlib.error, OSError) as error:
        raise click.ClickException(f"the log cannot be read: {error}") from error
    lines.sort(key=lambda line: line.when)
    document = {"lines": [line.fields for line in lines]}
    print_result(document, "\n".join(_table(lines)) if lines else "nothing happened in this time")


def _all_lines(files: Iterable[Path]) -> Iterator[AuditLine]:
    sources = [opened(file) for file in files]
    if not sources:
        if sys.stdin is None or sys.stdin.isatty():
            raise click.UsageError(NO_LOG)
        sources = [nullcontext(sys.stdin.buffer)]
    for source in sources:
        with source as opened_log:
            yield from audit_lines(opened_log)


def _table(lines: Iterable[AuditLine]) -> Iterator[str]:
    """Yield a heading and a row for each line, with columns of equal width; a long cell widens its own row only."""
    table = [COLUMNS, *(tuple(map(_cell, _row(line))) for line in lines)]
    widths = [max(len(cell) for cell in column if len(cell) <= WIDEST) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(line: AuditLine) -> Iterator[Any]:
    fields = line.fields
    yield line.when.strftime("%Y-%m-%d %H:%M:%SZ")
    for name in COLUMNS[1:-1]:
        value = fields.get(name)
        # No file is larger, and Python makes no floating point number of an integer with hundreds of digits.
        yield size_text(value) if name == "bytes" and isinstance(value, int) and value < 1 << 64 else value
    reason, code = fields.get("reason"), fields.get("code")
    yield f"{reason} ({code})" if reason and code else reason or code


def _cell(value: Any) -> str:
    """Return text that a terminal cannot take for a command: what is not printable is escaped."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text) or "-"
