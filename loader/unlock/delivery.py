"""The way of the tar from the archive to the engine: through a file (mode `tar`) or directly (mode `stream`).

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


def tar_path(settings: Settings) -> Path:
    """Return where mode `tar` decrypts the archive to: IMAGES_PATH without `.enc`, with `.tar`."""
    return settings.images_path.with_name(settings.images_path.name.removesuffix(".enc") + ".tar")


class TarDelivery(Protocol):
    """Authenticates the tar, then delivers it once.

    Call `authenticate`, then take all of `pieces`, then `close`, which leaves no plaintext behind. `size` is in bytes.
    """

    size: int

    def authenticate(self, fragment: bytes, on_authenticated: Callable[[int], None]) -> None:
        """Authenticate every segment. `on_authenticated` gets the bytes of the tar authenticated so far.

        Raises ArchiveCorrupt, DiskSpace, StorageError, and what the checkpoint raises.
        """

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the whole tar; each piece is valid until the next is taken.

        Raises RuntimeError unless the tar was authenticated since its last delivery.
        """

    def close(self) -> None: ...


class TarByFile:
    """Mode `tar`: decrypts the archive into a file (0600), and delivers that file."""

    def __init__(self, archive: Archive, path: Path, checkpoint: Checkpoint) -> None:
        self.size = archive.manifest.tar_size
        self._archive = archive
        self._path = path
        self._checkpoint = checkpoint
        self._is_whole = False
        remove_tar(path)

    def authenticate(self, fragment: bytes, on_authenticated: Callable[[int], None]) -> None:
        done = 0
        with _new_private_file(self._path, self.size) as tar:
            for segment in self._archive.plaintext(fragment, self._checkpoint):
                with storage(self._path, self.size):
                    write_large(tar, segment)
                done += len(segment)
                on_authenticated(done)
        self._is_whole = True

    def pieces(self) -> Iterator[memoryview]:
        if not self._is_whole:
            raise RuntimeError("a tar must be authenticated before each delivery")
        self._is_whole = False
        with storage(self._path, 0):
            tar = self._path.open("r+b", buffering=0)
        with tar:
            taken = 0
            for piece in FilePieces(tar, self._path, self._checkpoint):
                yield piece
                # Free what was sent, because the engine needs the room on the disk and in the page cache.
                punch_hole(tar, taken, len(piece))
                taken += len(piece)

    def close(self) -> None:
        remove_tar(self._path)


class TarByStream:
    """Mode `stream`: authenticates the archive in a first pass, and decrypts it to the engine in a second one."""

    def __init__(self, archive: Archive, checkpoint: Checkpoint) -> None:
        self.size = archive.manifest.tar_size
        self._archive = archive
        self._checkpoint = checkpoint
        self._fragment: bytes | None = None

    def authenticate(self, fragment: bytes, on_authenticated: Callable[[int], None]) -> None:
        done = 0
        for size in self._archive.verified_sizes(fragment, self._checkpoint):
            done += size
            on_authenticated(done)
        self._fragment = fragment

    def pieces(self) -> Iterator[memoryview]:
        fragment, self._fragment = self._fragment, None
        if fragment is None:
            raise RuntimeError("a tar must be authenticated before each delivery")
        # The second pass authenticates each segment again, because the file may have changed after the first pass. The
        # engine then gets an incomplete body and keeps nothing.
        yield from self._archive.plaintext(fragment, self._checkpoint)

    def close(self) -> None:
        self._fragment = None


@contextmanager
def tar_delivery(settings: Settings, archive: Archive, checkpoint: Checkpoint) -> Iterator[TarDelivery]:
    """Yield the delivery of the mode in UNLOCK_MODE, and close it after a success and after any error."""
    delivery: TarDelivery
    if settings.unlock_mode == "stream":
        delivery = TarByStream(archive, checkpoint)
    else:
        delivery = TarByFile(archive, tar_path(settings), checkpoint)
    try:
        yield delivery
    finally:
        delivery.close()


def remove_tar(path: Path) -> None:
    """Remove the decrypted tar if there is one. Never raises, because a failure must not undo an unlock."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("the decrypted %s could not be removed: %s", path, exc.strerror)


@contextmanager
def _new_private_file(path: Path, size: int) -> Iterator[io.BufferedWriter]:
    with storage(path, size):
        # O_EXCL refuses a link or a file that another user put there, because that user could read the plaintext.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    tar = os.fdopen(descriptor, "wb")
    try:
        yield tar
    finally:
        with storage(path, size):
            tar.close()
