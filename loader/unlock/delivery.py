"""The tar on its way from the archive to the engine: by way of a file, or straight.

Both ways authenticate the whole archive before the engine gets a byte.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from loader.binary_split import Archive
from loader.errors import Checkpoint
from loader.files import FilePieces, punch_hole, storage, write_large
from loader.settings import Settings

log = logging.getLogger(__name__)

Progress = Callable[[int], None]


class TarDelivery(Protocol):
    """`authenticate` first, then `pieces` are the tar, of `size` bytes in all, once. `close` leaves nothing behind."""

    size: int

    def authenticate(self, fragment: bytes, progress: Progress) -> None:
        """Verify every segment; `progress` gets the bytes verified so far.

        Raises ArchiveCorrupt, DiskSpace, StorageError, and what the checkpoint raises.
        """

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The whole tar; each piece is a view that is valid until the next is asked for.

        Raises RuntimeError unless it has been authenticated since it was delivered last.
        """

    def close(self) -> None: ...


class TarByFile:
    """Mode `tar`: authenticated on the way into a file, 0600, which the engine then gets."""

    def __init__(self, archive: Archive, path: Path, checkpoint: Checkpoint) -> None:
        self.size = archive.manifest.tar_size
        self._archive = archive
        self._path = path
        self._checkpoint = checkpoint
        self._is_whole = False
        remove_tar(path)

    def authenticate(self, fragment: bytes, progress: Progress) -> None:
        done = 0
        with _new_private_file(self._path, self.size) as tar:
            for segment in self._archive.plaintext(fragment, self._checkpoint):
                with storage(self._path, self.size):
                    write_large(tar, segment)
                done += len(segment)
                progress(done)
        self._is_whole = True

    def pieces(self) -> Iterator[memoryview]:
        if not self._is_whole:
            raise RuntimeError("a tar is authenticated, then delivered once")
        self._is_whole = False
        with storage(self._path, 0):
            tar = self._path.open("r+b", buffering=0)
        with tar:
            taken = 0
            for piece in FilePieces(tar, self._path, self._checkpoint):
                yield piece
                # The engine is about to need the room, on the disk and above all in the page cache.
                punch_hole(tar, taken, len(piece))
                taken += len(piece)

    def close(self) -> None:
        remove_tar(self._path)


class TarByStream:
    """Mode `stream`: authenticated in one pass, decrypted in a second one straight into the engine."""

    def __init__(self, archive: Archive, checkpoint: Checkpoint) -> None:
        self.size = archive.manifest.tar_size
        self._archive = archive
        self._checkpoint = checkpoint
        self._fragment: bytes | None = None

    def authenticate(self, fragment: bytes, progress: Progress) -> None:
        done = 0
        for size in self._archive.verified_sizes(fragment, self._checkpoint):
            done += size
            progress(done)
        self._fragment = fragment

    def pieces(self) -> Iterator[memoryview]:
        fragment, self._fragment = self._fragment, None
        if fragment is None:
            raise RuntimeError("a tar is authenticated, then delivered once")
        # Each segment is verified once more, so that a file which changes between the passes is noticed: the engine
        # then gets a cut body and keeps nothing.
        yield from self._archive.plaintext(fragment, self._checkpoint)

    def close(self) -> None:
        self._fragment = None


@contextmanager
def tar_delivery(settings: Settings, archive: Archive, checkpoint: Checkpoint) -> Iterator[TarDelivery]:
    """The delivery that UNLOCK_MODE names, closed on every way out."""
    delivery: TarDelivery
    if settings.unlock_mode == "stream":
        delivery = TarByStream(archive, checkpoint)
    else:
        delivery = TarByFile(archive, settings.tar_path, checkpoint)
    try:
        yield delivery
    finally:
        delivery.close()


def remove_tar(path: Path) -> None:
    """Remove the decrypted tar if there is one. Never raises: what is unlocked stays unlocked."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("the decrypted %s could not be removed: %s", path, exc.strerror)


@contextmanager
def _new_private_file(path: Path, size: int) -> Iterator[io.BufferedWriter]:
    with storage(path, size):
        # O_EXCL: never through a link or into a file that somebody else has put there and can read.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    tar = os.fdopen(descriptor, "wb")
    try:
        yield tar
    finally:
        with storage(path, size):
            tar.close()
