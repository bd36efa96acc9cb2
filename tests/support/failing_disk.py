"""A real disk that loses blocks: a file system on a loop device, whose image is truncated while it is mounted.

Whatever lies behind the end of the image is unreadable (EIO). Writing whole blocks there makes the image longer again,
as a disk replaces a bad sector that is written to; writing a part of a block fails with EIO.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.missing import missing
from tests.support.small_disk import mounted

BLOCK_SIZE = 4096


@dataclass(frozen=True)
class FailingDisk:
    """The file system at `path`, and its image."""

    path: Path
    image: Path

    def lose(self, file: Path, offset: int) -> None:
        """Make `file` unreadable from the block of `offset` on, and all files behind it on the disk."""
        os.sync()
        end = (_first_block(file) + offset // BLOCK_SIZE) * BLOCK_SIZE
        os.truncate(self.image, end)
        forget_pages(file)

    def regain(self, size: int) -> None:
        """Make the image `size` bytes long again; what was lost reads as zeros."""
        os.truncate(self.image, size)


@contextmanager
def failing_disk(directory: Path, size: int) -> Iterator[FailingDisk]:
    """Mount a disk of `size` bytes at `directory`/disk, sound at first; call `missing` if that is impossible."""
    image = directory / "disk.img"
    with image.open("wb") as file:
        file.truncate(size)
    # One group of blocks without a journal, so that all data of the file system itself lies before the files.
    command = ["mkfs.ext4", "-q", "-b", str(BLOCK_SIZE), "-O", "^has_journal", str(image)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as exc:
        missing("a failing disk", str(exc))
    with mounted(directory / "disk", "-o", "loop", str(image)):
        yield FailingDisk(directory / "disk", image)


def forget_pages(file: Path) -> None:
    """Drop what memory holds of `file`, so that the next read asks the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _first_block(file: Path) -> int:
    """Return the number of the first block of `file`, whose blocks must follow one another."""
    done = subprocess.run(["filefrag", "-b4096", "-v", str(file)], capture_output=True, text=True, check=True)
    extents = [line.split(":") for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    physical = int(extents[0][2].partition("..")[0])
    for extent in extents:
        logical, at = (int(extent[column].partition("..")[0]) for column in (1, 2))
        assert at - physical == logical, "the blocks of the file do not follow one another"
    return physical
