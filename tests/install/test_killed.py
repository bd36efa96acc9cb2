"""An installation that is killed before any of its steps leaves the former archive or the new one, whole."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.loader_server import REPOSITORY
from tests.support.thin_archives import top

RUN_SECONDS = 120


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each kill left, and the steps of an installation that was not killed."""
    command = [sys.executable, "-m", "tests.install.killed", str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_a_kill_before_any_step_leaves_one_whole_archive(killed: dict[str, list[str]]) -> None:
    left = killed["left"]
    assert left == sorted(left, reverse=True)  # old, until it is new
    assert len(left) == len(killed["steps"]) > 15
    assert set(left) == {"old", "new"}


def test_what_is_renamed_or_relied_on_was_synced_before(killed: dict[str, list[str]]) -> None:
    """A power cut keeps what was synced, and any part of the rest."""
    steps = killed["steps"]
    (renamed,) = (number for number, step in enumerate(steps) if step.startswith("replace .images.enc."))
    blobs = [number for number, step in enumerate(steps) if step.startswith("replace .") and number != renamed]
    removed = [number for number, step in enumerate(steps) if step.startswith("unlink ")]
    assert blobs
    assert removed
    for number in (renamed, *blobs):
        assert steps[number - 1] == f"fsync {steps[number].split()[1]}"
    for directory in ("images.blobs", "device"):
        assert any(step == f"fsync {directory}" for step in steps[max(blobs) : renamed])
    assert any(step == "fsync device" for step in steps[renamed : min(removed)])


def test_only_what_the_file_lacked_was_written_to_the_directory(killed: dict[str, list[str]]) -> None:
    names = [step.split()[2] for step in killed["steps"] if step.startswith("replace ")]
    assert names[-1] == "images.enc"
    assert len(names) == 2  # the one layer that only the former archive had in its file
    assert top(2).described[1] < 1 << 20
