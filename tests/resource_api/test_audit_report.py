"""The command `audit`: it answers from log files, which may hold anything."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from resource_api.cli import main

NOW = datetime.now(UTC)


def line(minutes_ago: int, event: str = "fragment", outcome: str = "done", **fields: Any) -> str:
    when = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    known = {
        "logger": "resource_api.audit",
        "timestamp": when,
        "event": event,
        "outcome": outcome,
        "client": "192.0.2.7",
    }
    return json.dumps({**known, "device": "orin-7", "user": "device-7", **fields})


def audit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def answers(*arguments: str | Path) -> dict[str, list[dict[str, Any]]]:
    done = audit(*arguments, "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, list[dict[str, Any]]] = json.loads(done.output)
    return document


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three days, of which an old part is compressed."""
    failed = {"outcome": "refused", "code": "UNAUTHORIZED", "reason": "The account is disabled."}
    lines = [
        line(5, release="1.4", check="0" * 16),
        line(4, "login", **failed, device="orin-8", user="device-8"),
        line(3, "login", **failed, device="orin-8", user="device-8"),
        line(2, "small_part", object="models/x.small"),
    ]
    (tmp_path / "api.log").write_text("\n".join(lines) + "\n")
    with gzip.open(tmp_path / "api.log.2.gz", "wt") as packed:
        packed.write(line(3 * 24 * 60, release="1.3", check="1" * 16) + "\n")
    return tmp_path / "api.log"


def test_it_answers_the_three_questions(log: Path) -> None:
    told = answers(log)
    (fragment,) = told["fragments"]
    assert (fragment["device"], fragment["release"], fragment["check"]) == ("orin-7", "1.4", "0" * 16)
    seen = {each["device"]: (each["event"], each["requests"]) for each in told["devices"]}
    assert seen == {"orin-8": ("login", 2), "orin-7": ("small_part", 2)}
    (failure,) = told["failures"]
    assert (failure["device"], failure["times"], failure["reason"]) == ("orin-8", 2, "The account is disabled.")


def test_rotated_files_count_too_as_far_as_since_reaches(log: Path) -> None:
    files = log, log.with_name("api.log.2.gz")
    assert [each["release"] for each in answers(*files, "--since", "7d")["fragments"]] == ["1.3", "1.4"]
    assert [each["release"] for each in answers(*files)["fragments"]] == ["1.4"]
    assert answers(*files, "--since", NOW.isoformat())["devices"] == []
    assert len(answers(*files, "--since", (NOW - timedelta(days=5)).strftime("%Y-%m-%d"))["fragments"]) == 2


def test_it_can_be_limited_to_a_device_or_a_user(log: Path) -> None:
    assert answers(log, "--device", "orin-7")["failures"] == []
    assert answers(log, "--user", "device-8")["fragments"] == []
    assert len(answers(log, "--user", "device-8")["devices"]) == 1


@pytest.mark.parametrize("since", ["yesterday", "7w", "-1d", "2026-13-01", ""])
def test_a_wrong_moment_is_refused(log: Path, since: str) -> None:
    assert audit(log, "--since", since).exit_code == 2


@pytest.mark.parametrize(
    "junk",
    [
        "plain text",
        "{",
        "[" * 100_000,
        '{"logger": "resource_api.audit"}',
        '{"logger": "resource_api.audit", "timestamp": "2026-01-01T00:00:00"}',
        '{"logger": "resource_api.audit", "timestamp": 7}',
        "[]",
        "x" * 200_000,
        "\udcff",
    ],
)
def test_other_lines_are_skipped(log: Path, junk: str) -> None:
    wanted = answers(log)
    text = log.read_bytes()
    log.write_bytes(junk.encode(errors="surrogatepass") + b"\n" + text)
    assert answers(log) == wanted


def test_a_collector_may_put_words_before_a_line(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(f"Feb 28 18:00:00 host api[7]: {line(1)}\n")
    assert len(answers(tmp_path / "journal")["fragments"]) == 1


def test_the_table_escapes_what_a_terminal_would_obey(tmp_path: Path) -> None:
    hostile = "a\n\x1b]0;title\x07\u202e\ud800"
    (tmp_path / "log").write_text(line(1, "object", "refused", object=hostile, device=hostile) + "\n")
    done = audit(tmp_path / "log")
    assert done.exit_code == 0
    assert done.output.isascii()
    assert not set("\x1b\x07") & set(done.output)
    assert r"a\n\x1b]0;title\x07\u202e\ud800" in done.output


def test_a_cut_archive_of_a_log_is_an_error_in_one_line(log: Path) -> None:
    packed = log.with_name("api.log.2.gz")
    packed.write_bytes(packed.read_bytes()[:-12])
    done = audit(packed, "--since", "7d")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
