"""The stored bytes of blobs, which several archives may have: what a release adds, who has it, and archives of it.

Nothing here needs a key. Stored bytes are compared with the piece digest of a head whenever they are copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from loader.binary_split import Archive, Stage
from loader.crypto.archive import archive_start
from loader.crypto.archive_head import Blob, Head
from loader.crypto.archive_seals import Seals
from loader.errors import ArchiveIncomplete
from loader.files import OnBytes, replacement, storage, synced_along

# An archive that has the stored bytes of a blob, and the blob as the head of this archive describes it.
Held = tuple[Archive, Blob]


def left_over(head: Head, base: Head) -> list[Blob]:
    """Return the blobs of `head` whose stored bytes are none of `base`, in their order."""
    there = set(map(_stored, base.blobs))
    return [blob for blob in head.blobs if _stored(blob) not in there]


def find_held(blobs: Iterable[Blob], archives: Sequence[Archive], subject: str) -> list[Held]:
    """Return each blob as the first of `archives` has it. Raises ArchiveIncomplete, which says what `subject` lacks."""
    held: dict[tuple[str, int], Held] = {}
    for archive in archives:
        absent = set(archive.absent)
        for blob in archive.head.blobs:
            if blob not in absent:
                held.setdefault(_stored(blob), (archive, blob))
    wanted = list(blobs)
    if missing := [blob for blob in wanted if _stored(blob) not in held]:
        size = sum(blob.stored_size for blob in missing)
        raise ArchiveIncomplete(f"{subject} lacks {len(missing)} blobs of {size} bytes.")
    return [held[_stored(blob)] for blob in wanted]


def replace_archive(output: Path, seals: Seals, like: Archive, blobs: Sequence[Held], label: str, stage: Stage) -> None:
    """Write what `write_archive` does to `output`, which appears whole or not at all, as the stage `label`.

    Raises ArchiveCorrupt, StorageError and DiskSpace.
    """
    size = sum(blob.stored_size for _, blob in blobs)
    with storage(output, size), replacement(output) as file, stage(label, size) as advance:
        write_archive(file, output, seals, like, blobs, advance)


def write_archive(
    file: BinaryIO, path: Path, seals: Seals, like: Archive, blobs: Sequence[Held], on_written: OnBytes
) -> None:
    """Write an archive with the head of `like` and these blobs into the empty `file`, which lies at `path`.

    `on_written` gets the bytes of each piece. Everybody may read the archive, because it is ciphertext that is made to
    be copied. Raises OSError, ArchiveCorrupt, StorageError and DiskSpace.
    """
    start = archive_start(like.index.stored, seals, [blob for _, blob in blobs])
    file.write(start)
    file.flush()
    offset = len(start)
    with synced_along(file, on_written) as written:
        for archive, blob in blobs:
            archive.copy(blob, file, path, offset, written)
            offset += blob.stored_size
    os.fchmod(file.fileno(), 0o644)


def _stored(blob: Blob) -> tuple[str, int]:
    """Return what identifies the stored bytes of a blob. The size counts, because a head may lie about it."""
    return blob.stored, blob.stored_size
