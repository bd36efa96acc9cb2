"""A clock that steps, as it does on a device without a battery: a fake for one process, built by the C compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import missing

SOURCE = Path(__file__).with_suffix(".c")
COMPILE_SECONDS = 60


class SteppedClock:
    """The clock of the processes that have `env` in their environment. At first it shows the real time."""

    def __init__(self, directory: Path) -> None:
        """Write the files of the clock to `directory`. Skip the test, or fail it in CI, without a C compiler."""
        compiler = shutil.which("gcc")
        if compiler is None:
            missing("gcc", "a clock that steps is built by the C compiler")
        library, self._step = directory / "stepped_clock.so", directory / "clock-step"
        self._set(0)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)],
            check=True,
            timeout=COMPILE_SECONDS,
        )
        self.env = {"LD_PRELOAD": str(library), "CLOCK_STEP": str(self._step)}

    @contextmanager
    def stepped(self, seconds: int) -> Iterator[None]:
        """Let the clock be `seconds` ahead of the real time, or behind if they are negative, during the block."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: int) -> None:
        # In place, because the processes have mapped the file.
        self._step.touch()
        with self._step.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
