"""The clock that steps: the process sees it, its waiting does not, and afterwards it shows the real time again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import clean_env
from tests.support.stepped_clock import SteppedClock

DAY = 86_400
SHOW = """
import datetime, threading, time
for _ in range(3):
    input()
    at = time.monotonic()
    threading.Event().wait(0.01)
    assert time.monotonic() - at < 60
    assert abs(datetime.datetime.now().timestamp() - time.time()) < 60
    print(time.time(), flush=True)
"""


def test_a_process_sees_the_steps(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", SHOW],
        env=clean_env(tmp_path, **clock.env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, told = process.stdin, process.stdout

        def shown() -> float:
            print(file=ask, flush=True)
            return float(told.readline())

        before = shown()
        with clock.stepped(-DAY):
            assert abs(shown() - before + DAY) < 60
        assert abs(shown() - before) < 60
