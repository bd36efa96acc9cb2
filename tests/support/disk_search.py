"""Is this plaintext on a disk? Looks into files, and into files without a name that a process holds open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PIECE_SIZE = 1 << 20


def files_below(
    directories: Iterable[Path], *, changed_since: float, skip: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Regular files that changed after that moment (as `time.time()`), but none below a directory named in `skip`."""
    for directory in directories:
        for parent, names, files in os.walk(directory):
            names[:] = [name for name in names if name not in skip]
            for name in files:
                path = Path(parent, name)
                with suppress(OSError):  # gone since it was listed, or not ours to read
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_mtime >= changed_since:
                        yield path


def open_files(pid: int) -> Iterator[Path]:
    """Paths below /proc by which the regular files that `pid` has open can be read, even those without a name."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            if stat.S_ISREG(path.stat().st_mode):
                yield path


def contains(path: Path, marker: bytes) -> bool:
    """Whether the file holds `marker`; False for one that has gone."""
    kept = b""
    with suppress(OSError), path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            if marker in kept + piece:
                return True
            kept = piece[-len(marker) :]
    return False
