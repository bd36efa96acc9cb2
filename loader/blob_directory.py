"""The directory beside an archive with the blobs that the archive lacks: each in a file named by its piece digest.

{digest}           a whole blob; a fetch gives this name only to a blob whose digest it has verified
{digest}.partial   the start of a blob, which a fetch resumes after any interruption
fetched.head       the head of the release that a fetch brings, as an archive without blobs
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from loader.crypto.archive import HEAD_MAX_SIZE, ArchiveIndex
from loader.crypto.archive_head import Blob
from loader.errors import CorruptCiphertext
from loader.files import TEMPORARY_SUFFIX, NotRegular, open_regular, read_small, remove_if_there, remove_unfinished

ARCHIVE_SUFFIX = ".enc"
DIRECTORY_SUFFIX = ".blobs"
FETCHED_NAME = "fetched.head"
PARTIAL_SUFFIX = ".partial"
_NAME = "[0-9a-f]" * 64


def blob_directory(archive: Path) -> Path:
    """Return the directory of an archive; if the archive is a symbolic link, the directory beside its target."""
    return Path(os.path.realpath(archive).removesuffix(ARCHIVE_SUFFIX) + DIRECTORY_SUFFIX)


def open_blobs(directory: Path, blobs: Iterable[Blob], opened: ExitStack) -> dict[str, io.FileIO]:
    """Open the files of these blobs until `opened` is closed, and return them by the digests of the contents.

    Left out are blobs without a file of the right size. Nothing is known about the bytes. Raises OSError.
    """
    files = {}
    for blob in blobs:
        with suppress(FileNotFoundError, NotADirectoryError, NotRegular):
            file = opened.enter_context(io.FileIO(open_regular(directory / blob.stored)))
            if os.fstat(file.fileno()).st_size == blob.stored_size:
                files[blob.digest] = file
    return files


def remove_other_blobs(directory: Path, needed: Collection[Blob]) -> None:
    """Remove all blobs but the `needed` ones and those of a fetch, and what killed processes left unfinished.

    Other files stay. Raises OSError.
    """
    for unfinished in directory.glob(f".{_NAME}.{TEMPORARY_SUFFIX}"):
        remove_unfinished(directory / unfinished.name.split(".")[1])
    names = {blob.stored for blob in (*needed, *_fetched_blobs(directory))}
    for path in (*directory.glob(_NAME), *directory.glob(_NAME + PARTIAL_SUFFIX)):
        if path.name.removesuffix(PARTIAL_SUFFIX) not in names:
            remove_if_there(path)


def _fetched_blobs(directory: Path) -> tuple[Blob, ...]:
    """Return the blobs of the release that a fetch brings; none if its head cannot be read."""
    with suppress(OSError, CorruptCiphertext):
        raw = read_small(directory / FETCHED_NAME, HEAD_MAX_SIZE)
        return ArchiveIndex.read(io.BytesIO(raw), len(raw)).head.blobs
    return ()
