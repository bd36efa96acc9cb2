"""Files that appear whole or not at all."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(target: Path, temporary_directory: Path) -> Iterator[BinaryIO]:
    """Yield a new file (mode 0600) that takes the place of `target` when the block ends.

    When the block raises, the new file is removed and `target` stays as it was. Missing parents of `target` are made
    only at the end, so that a failed block leaves no directories either. `temporary_directory` has to be on the file
    system of `target`. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=temporary_directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells `remove_left_overs` that this one is in use
            yield file
            file.flush()
            # Kernels before 6.13 stamp files at their timer tick (4 ms); ETags are made of the time and need it finer.
            now = time.time_ns()
            os.utime(file.fileno(), ns=(now, now))
            os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def remove_left_overs(temporary_directory: Path) -> None:
    """Remove the files that a killed process left in `temporary_directory`, not those that are being written."""
    for path in temporary_directory.iterdir():
        # Finished or removed by another process since it was listed; or locked, so being written.
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_directory(directory: Path) -> None:
    """Make a rename in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
