"""The command `audit`: answers from the log files of one or several servers."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from resource_api.audit_report import AuditLine, Failure, Report, Seen, audit_lines, report

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_FRAGMENTS = ("when", "device", "user", "client", "release", "check", "outcome", "reason")
_DEVICES = ("last", "device", "user", "client", "event", "outcome", "requests")
_FAILURES = ("last", "times", "device", "user", "event", "object", "outcome", "code", "reason")


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
@click.argument(
    "files", metavar="LOGFILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--since", type=Since(), default="24h", show_default=True, help="Like 30m, 24h, 7d or 2026-02-28T18:00.")
@click.option("--device", help="Only requests of the device that calls itself so.")
@click.option("--user", help="Only requests of this account.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def audit(files: tuple[Path, ...], since: datetime, device: str | None, user: str | None, as_json: bool) -> None:
    """Tell who asked for key fragments, when devices were last seen, and what failed, from LOGFILE...

    Give all log files of all servers, also rotated ones; those that end in .gz are unpacked. The name of a device and
    the release are what its loader has said, which proves nothing; the user has logged in. Times are in UTC.
    """
    try:
        answers = report((line for file in files for line in audit_lines(file)), since, device=device, user=user)
    except (EOFError, zlib.error) as error:
        raise click.ClickException(f"a compressed log file is damaged: {error}") from error
    tables = _tables(answers)
    if as_json:
        click.echo(json.dumps({name: [_document(row) for row in rows] for name, _, rows in tables}, indent=1))
        return
    for name, columns, rows in tables:
        click.echo(f"{name}: {len(rows) or 'none'}")
        for line in _lines(columns, rows):
            click.echo(f"  {line}")


def _tables(answers: Report) -> list[tuple[str, tuple[str, ...], list[Any]]]:
    return [
        ("fragments", _FRAGMENTS, answers.fragments),
        ("devices", _DEVICES, sorted(answers.devices.values(), key=lambda seen: seen.last)),
        ("failures", _FAILURES, sorted(answers.failures.values(), key=lambda failure: failure.last)),
    ]


def _document(row: AuditLine | Seen | Failure) -> dict[str, Any]:
    return {name: _utc(value) if isinstance(value, datetime) else value for name, value in asdict(row).items()}


def _lines(columns: tuple[str, ...], rows: Iterable[Any]) -> Iterator[str]:
    """Yield a heading and a line for each row, with columns of equal width; nothing without rows."""
    cells = [[_cell(getattr(row, column)) for column in columns] for row in rows]
    if not cells:
        return
    table = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    """Return text that a terminal cannot take for a command: what is not printable is escaped."""
    text = _utc(value) if isinstance(value, datetime) else str(value)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text) or "-"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
