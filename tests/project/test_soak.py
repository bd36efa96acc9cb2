"""`python -m tools.soak`: a short run with each trouble, the lines that it prints, and what counts as a violation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support.debian_root import cache
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import clean_env
from tests.support.swift_store import swift_environment
from tools.soak.__main__ import verdict
from tools.soak.models import Models
from tools.soak.tally import LOST, Tally
from tools.soak.troubles import TROUBLES

TEN_SECONDS = "0.16"
RUN_SECONDS = 240.0


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
        env=clean_env(scratch, TMPDIR=str(scratch), SOAK_MINUTES=minutes, XDG_CACHE_HOME=str(cache().parent)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_a_short_soak_finds_no_violation_and_leaves_no_file(scratch: Path) -> None:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("docker engine", "a private dockerd needs root and dockerd")
    swift_environment()  # here, because its installation would leave files in TMPDIR
    done = soak(scratch, TEN_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, verdict = done.stdout.splitlines()
    assert verdict == "every invariant held"
    for expected in ("broken 0", "rss ", "health 200: ", "load 200: ", "upload 200: ", "unlocked 200: "):
        assert expected in lines[-1]
    for trouble in TROUBLES:
        assert f"{trouble.name}: " in lines[-1]
    for told in ("DISK_SPACE", "STORAGE_ERROR"):
        assert f"ready 503 {told}: " in lines[-1]
    assert list(scratch.iterdir()) == []


def test_a_length_that_is_not_a_number_is_refused(scratch: Path) -> None:
    done = soak(scratch, "long")
    assert (done.returncode, done.stderr) == (2, "SOAK_MINUTES must be a number\n")


def test_the_same_trouble_excuses_only_what_it_names_and_only_while_it_lasts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally()
    before = monotonic()
    with tally.history.period({"load API_UNREACHABLE", f"health {LOST}"}):
        tally.outcome("load", 503, "API_UNREACHABLE", before)
        tally.outcome("load", 200, "", before)
        lose_connection(tally)
    tally.outcome("load", 503, "API_UNREACHABLE", before)  # the request has met the trouble
    tally.outcome("load", 503, "BUSY", monotonic())  # may always come
    assert verdict(tally) == 0
    tally.outcome("load", 503, "API_UNREACHABLE", monotonic())
    tally.outcome("upload", 503, "API_UNREACHABLE", before)
    tally.outcome("load", 502, "RESOURCE_CORRUPT", before)
    tally.outcome("load", 500, "", before)
    lose_connection(tally)
    assert verdict(tally) == 1
    assert capsys.readouterr().out.count("BROKEN, 1 times: ") == 5
    assert "load 503 API_UNREACHABLE: 3" in tally.line()


def test_a_trouble_may_linger() -> None:
    tally = Tally()
    with tally.history.period({"load API_UNREACHABLE"}, linger_seconds=5):
        pass
    tally.outcome("load", 503, "API_UNREACHABLE", monotonic())
    assert not tally.violations
    tally.outcome("load", 503, "API_UNREACHABLE", monotonic() + 5)
    assert tally.violations


def test_a_request_may_take_as_long_as_its_trouble_and_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.soak.tally.LONGEST_SECONDS", 0.05)
    tally = Tally()
    with tally.history.period({}), tally.guarded("load"):
        sleep(0.1)  # as long as the trouble
    assert not tally.violations
    with tally.guarded("load"):
        sleep(0.1)
    assert tally.violations == {"load: took 0 s longer than the troubles that it met": 1}


def lose_connection(tally: Tally) -> None:
    with tally.guarded("health"):
        raise ConnectionResetError


def test_a_load_may_return_any_version_since_the_last_confirmed_one() -> None:
    models = Models()
    (_, old), (confirmed, middle), (_, new) = (models.next_version("model", 1_000) for _ in range(3))
    assert len({old, middle, new}) == 3
    assert models.known("model", old, models.confirmed("model"), whole=True)
    models.confirm("model", confirmed)
    least = models.confirmed("model")
    assert [models.known("model", content, least, whole=True) for content in (old, middle, new)] == [False, True, True]
    assert models.known("model", new[:-1], least, whole=False)
    assert not models.known("model", new[:-1], least, whole=True)
    assert not models.known("model", bytes(len(new)), least, whole=False)
