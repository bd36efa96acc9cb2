"""`python -m tools.soak` for a few seconds: it runs, prints its lines, and its exit code reports violations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import clean_env
from tools.soak.__main__ import verdict
from tools.soak.tally import Tally

TEN_SECONDS = "0.16"
RUN_SECONDS = 120.0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Yield a TMPDIR for the run. Its path is short, because the engine creates unix sockets deep inside it."""
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    yield directory
    shutil.rmtree(directory)


def soak(scratch: Path, minutes: str) -> subprocess.CompletedProcess[str]:
    """Run the soak for this many minutes, and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "tools.soak"],
        env=clean_env(scratch, TMPDIR=str(scratch), SOAK_MINUTES=minutes),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_a_short_soak_finds_no_violation_and_leaves_no_file(scratch: Path) -> None:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("docker engine", "a private dockerd needs root and dockerd")
    done = soak(scratch, TEN_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, verdict = done.stdout.splitlines()
    assert verdict == "every invariant held"
    for expected in ("broken 0", "rss ", "health 200: ", "load 200: ", "upload 200: ", "unlocked 200 "):
        assert expected in lines[-1]
    assert list(scratch.iterdir()) == []


def test_a_length_that_is_not_a_number_is_refused(scratch: Path) -> None:
    done = soak(scratch, "long")
    assert (done.returncode, done.stderr) == (2, "SOAK_MINUTES must be a number\n")


def _lose_connection() -> None:
    raise ConnectionResetError


def test_an_unexpected_error_or_lost_connection_is_a_violation(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.outcome("load", 503, "BUSY")
    assert verdict(tally) == 0
    tally.outcome("load", 500, "INTERNAL")
    tally.outcome("load", 502, "RESOURCE_CORRUPT")
    tally.guarded("health", _lose_connection)
    assert verdict(tally) == 1
    assert capsys.readouterr().out.count("BROKEN, 1 times: ") == 3
    assert "load 503 BUSY: 1" in tally.line()


def test_a_connection_lost_by_killing_the_worker_is_not_a_violation() -> None:
    tally = Tally()
    started = monotonic()
    tally.killed()
    tally.guarded("health", _lose_connection)
    tally.revived()
    assert tally.excused(started)
    assert not tally.violations
    assert not tally.excused(monotonic())
