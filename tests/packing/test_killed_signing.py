"""A signing that is killed before any of its steps leaves the former archive or the signed one, whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.loader_server import REPOSITORY

RUN_SECONDS = 120


def test_a_kill_before_any_step_leaves_one_whole_archive(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.packing.killed_signing", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    left, steps = found["left"], found["steps"]
    # The rename is the last step, so no kill before a step leaves the signed archive.
    assert left == ["old"] * len(steps)
    (renamed,) = (number for number, step in enumerate(steps) if step.startswith("replace .images.enc."))
    # A power cut must not leave the name of the archive on missing bytes.
    assert steps[renamed - 1] == f"fsync {steps[renamed].split()[1]}"
