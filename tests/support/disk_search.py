"""Searches a disk for plaintext: files with a name, and nameless files that a process holds open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

READ_SIZE = 1 << 20


def files_below(
    directories: Iterable[Path], *, changed_since: float, skip: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Yield the regular files that changed since `changed_since` (in the unit of `time.time()`).

    Directories with a name in `skip` are left out.
    """
    for directory in directories:
        for parent, names, files in os.walk(directory):
            names[:] = [name for name in names if name not in skip]
            for name in files:
                path = Path(parent, name)
                with suppress(OSError):  # removed since the listing, or not readable
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_mtime >= changed_since:
                        yield path


def open_files(pid: int) -> Iterator[Path]:
    """Yield paths below /proc that read the regular files that `pid` has open, even files without a name."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since the listing
            if stat.S_ISREG(path.stat().st_mode):
                yield path


def contains(path: Path, marker: bytes) -> bool:
    """Return whether the file contains `marker`; False if the file no longer exists."""
    kept = b""
    with suppress(OSError), path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            if marker in kept + piece:
                return True
            kept = piece[-len(marker) :]
    return False
