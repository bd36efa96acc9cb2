"""The temporary directory that holds all the demo's files."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .services import end_orphans

PREFIX = "azaion-demo-"
LOG_TAIL_LINES = 12


@contextmanager
def workspace() -> Iterator[Path]:
    """A new directory with a `logs` in it. At the end it goes, with the processes and mounts that are left there."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (directory / "logs").mkdir()
        yield directory
    finally:
        end_orphans()
        _unmount_below(directory)
        shutil.rmtree(directory)


def log_tails(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each log that is not empty, with its last lines."""
    for log in sorted((directory / "logs").iterdir()):
        lines = log.read_text(errors="replace").splitlines()
        if lines:
            yield log, lines[-LOG_TAIL_LINES:]


def _unmount_below(directory: Path) -> None:
    """What an engine that was killed has left. Raises if something stays: nothing may be deleted through a mount."""
    mounts = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # The innermost come last.
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", mount], check=True)


def _unescaped(path: str) -> str:
    r"""proc(5): space, tab, line break and backslash are written as `\040` and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
