"""`azaion-loader log`: the audit lines of a log for people and for programs."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loader.cli.audit_log import MAX_LINE_BYTES
from tests.cli.cli_runs import invoke, terminal

URL = "http://127.0.0.1:9"
# Hours lie between the lines, because the last test of a long run comes many minutes after this moment.
NOW = datetime.now(UTC)


def line(event: str, hours_ago: int = 1, **fields: Any) -> str:
    when = NOW - timedelta(hours=hours_ago)
    known = {"timestamp": when.isoformat(timespec="milliseconds"), "logger": "loader.audit", "event": event}
    empty = dict.fromkeys(("user", "client", "version", "file", "bytes", "seconds", "code", "reason"))
    return json.dumps({**empty, **known, "outcome": "ok", **fields}) + "\n"


LOGIN = line("login", 12, user="a@example.com", client="192.0.2.7", seconds=0.4)
UNLOCK = line(
    "unlock", 8, outcome="failed", user="a@example.com", code="DISK_SPACE", reason="No room.", file="/opt/images.enc"
)
LOAD = line("load", 4, file="day/m.onnx", bytes=734_003_200, seconds=3.1)


def shown(log: str | bytes, *arguments: str) -> list[list[str]]:
    done = invoke(URL, "log", *arguments, stdin=log)
    assert (done.exit_code, done.stderr) == (0, "")
    return [row.split("  ") for row in done.stdout.splitlines()]


def cells(rows: list[list[str]]) -> list[list[str]]:
    return [[cell.strip() for cell in row if cell.strip()] for row in rows]


def test_people_read_who_did_what_and_why_not() -> None:
    heading, *rows = cells(shown(LOAD + UNLOCK + LOGIN))
    assert heading == ["when", "event", "outcome", "user", "client", "version", "file", "bytes", "seconds", "why"]
    moments = [f"{NOW - timedelta(hours=ago):%Y-%m-%d %H:%M:%SZ}" for ago in (12, 8, 4)]
    assert [" ".join(row) for row in rows] == [
        f"{moments[0]} login ok a@example.com 192.0.2.7 - - - 0.4 -",
        f"{moments[1]} unlock failed a@example.com - - /opt/images.enc - - No room. (DISK_SPACE)",
        f"{moments[2]} load ok - - - day/m.onnx 734 MB 3.1 -",
    ]


def test_programs_read_one_document() -> None:
    done = invoke(URL, "log", "--json", stdin=UNLOCK + LOGIN)
    assert json.loads(done.stdout) == {"lines": [json.loads(LOGIN), json.loads(UNLOCK)]}
    assert json.loads(invoke(URL, "log", "--json", stdin="").stdout) == {"lines": []}


@pytest.mark.parametrize(
    ("since", "events"),
    [
        ("6h", ["load"]),
        ("20h", ["login", "unlock", "load"]),
        ((NOW - timedelta(hours=10)).isoformat(), ["unlock", "load"]),
        ("2h", []),
        ("30m", []),
    ],
    ids=["6h", "20h", "a moment", "2h", "30m"],
)
def test_since_chooses(since: str, events: list[str]) -> None:
    done = invoke(URL, "log", "--json", "--since", since, stdin=LOGIN + UNLOCK + LOAD)
    assert [each["event"] for each in json.loads(done.stdout)["lines"]] == events


def test_the_last_day_is_the_default() -> None:
    assert shown(line("load", 25)) == [["nothing happened in this time"]]
    assert invoke(URL, "log", "--since", "yesterday").exit_code == 2


def test_files_are_read_also_rotated_and_prefixed_ones(tmp_path: Path) -> None:
    (tmp_path / "loader.log").write_text(LOAD)
    (tmp_path / "loader.log.1.gz").write_bytes(gzip.compress(LOGIN.encode()))
    (tmp_path / "journal").write_text(f"Nov 29 10:00:00 host azaion-loader[7]: {UNLOCK}")
    done = invoke(URL, "log", "--json", *map(str, sorted(tmp_path.iterdir())))
    assert [each["event"] for each in json.loads(done.stdout)["lines"]] == ["login", "unlock", "load"]
    (tmp_path / "loader.log.1.gz").write_bytes(gzip.compress(LOGIN.encode())[:-9])
    cut = invoke(URL, "log", str(tmp_path / "loader.log.1.gz"))
    assert cut.exit_code == 1
    assert "the log cannot be read" in cut.stderr


@pytest.mark.parametrize(
    "junk",
    [
        b"no JSON\n",
        b"{}\n",
        b"[1]\n",
        b'{"logger": "loader.audit"}\n',
        b'{"logger": "loader.audit", "event": "x", "timestamp": "2026-01-01T00:00:00"}\n',
        b'{"logger": "gunicorn.access", "event": "x", "timestamp": "2099-01-01T00:00:00+00:00"}\n',
        b"\xff\xfe\n",
        line("load", timestamp="9999-12-31T23:59:59-23:59").encode(),
        line("load", timestamp="0001-01-01T00:00:00+23:59").encode(),
        b"[" * 9999 + b"\n",
        b"x" * (2 * MAX_LINE_BYTES) + b"\n",
        line("load", reason="r" * MAX_LINE_BYTES).encode(),
    ],
)
def test_what_is_no_audit_line_is_skipped(junk: bytes) -> None:
    done = invoke(URL, "log", "--json", stdin=junk + LOGIN.encode() + junk)
    assert json.loads(done.stdout) == {"lines": [json.loads(LOGIN)]}


def test_a_name_cannot_command_the_terminal() -> None:
    done = invoke(URL, "log", stdin=line("load", file="\x1b[2Jx"))
    assert "\x1b" not in done.stdout
    assert "\\x1b[2Jx" in done.stdout


@pytest.mark.parametrize(
    "size", [10**400, -1, True, 1.5, "x", [[]]], ids=["huge", "negative", "bool", "float", "text", "list"]
)
def test_a_size_that_is_none_is_shown(size: object) -> None:
    rows = shown(line("load", bytes=size))
    assert len(rows) == 2


def test_a_long_name_widens_no_other_line() -> None:
    """Anybody who reaches the loader can ask for a model with a name of some thousand characters."""
    heading, long, load = shown(line("load", 20, file="x" * 4000) + LOAD)
    assert "x" * 4000 in long
    assert max(map(len, ("  ".join(heading), "  ".join(load)))) < 200


def test_without_a_log_the_command_says_where_one_comes_from(tmp_path: Path) -> None:
    with terminal(tmp_path, "log") as screen:
        assert screen.end() == 2
    assert "journalctl --output=cat --unit azaion-loader | azaion-loader log" in " ".join(screen.shown.split())
