"""Resources: models in big and small parts, opened for a load and sealed for an upload."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

from loader.api_client import get_api_client
from loader.crypto.resource_parts import BigPart, ResourceName, SmallPart, seal_resource
from loader.crypto.sealed_spool import SealedSpool
from loader.errors import CorruptCiphertext, NotLoggedIn, ResourceCorrupt
from loader.files import FilePieces, make_private_directory, storage

log = logging.getLogger(__name__)


class BigSource(Protocol):
    """A big part being read, whether it comes from the API or from anywhere else."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...

    def close(self) -> None: ...


OpenBig = Callable[[ResourceName, BigPart], BigSource]


def open_remote_big(name: ResourceName, part: BigPart) -> BigSource:
    """The big part, streamed from the API or from where it redirects to."""
    return get_api_client().open_object(name.big(part.sha256))


class UploadForm(Protocol):
    """An upload whose parts are read once, in the order in which they come. `length` is that of all in bytes."""

    @property
    def length(self) -> int: ...

    def folder_if_first(self) -> str | None:
        """Read up to the file; the folder if it came before that."""

    def file_pieces(self) -> Iterator[bytes]:
        """The content of the file."""

    def folder_at_end(self) -> str:
        """Read what follows the file, to the very end; the folder."""


class Plaintext:
    """A resource being read: an iterator over its plaintext in pieces of at most 1 MiB. `size` is in bytes.

    The first segment has verified when this exists, so that what can go wrong early does so before an answer begins.
    Raises ResourceCorrupt, or what the source raises. `close` ends the transfer, finished or not.
    """

    def __init__(self, name: ResourceName, small: SmallPart, big: BigSource | None) -> None:
        self._name = name
        self._big = big
        self._segments = small.decrypt(name, big)
        self.size = self._segments.plaintext_size
        self.sent = 0
        self._first: bytes | None = bytes(next(self._segments))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            try:
                piece = bytes(next(self._segments))
            except CorruptCiphertext as exc:
                raise _corrupt(self._name, exc) from exc
        self.sent += len(piece)
        return piece

    def close(self) -> None:
        if self._big is not None:
            self._big.close()


class ResourceStore:
    """Loads and stores resources. `work_dir` holds what an upload must put on disk, which is ciphertext only."""

    def __init__(self, work_dir: Path, open_big: OpenBig) -> None:
        self._work_dir = work_dir
        self._open_big = open_big

    def load(self, name: ResourceName) -> Plaintext:
        """The resource, its first segment verified; what fails to authenticate is fetched once more.

        Raises NotLoggedIn, ResourceNotFound, ResourceCorrupt and the faults of the API.
        """
        try:
            return self._open(name)
        except CorruptCiphertext as exc:
            log.warning("%s did not authenticate (%s), fetching it once more", name.path, exc)
        try:
            return self._open(name)
        except CorruptCiphertext as exc:
            raise _corrupt(name, exc) from exc

    def store(self, filename: str, form: UploadForm) -> tuple[ResourceName, int]:
        """Encrypt the file of `form` as it comes, split it and upload both parts; its name and size in bytes.

        Nothing is uploaded unless the whole form was read. Raises NotLoggedIn, DiskSpace, StorageError, what `form`
        raises and the faults of the API.
        """
        if not get_api_client().authenticated:
            raise NotLoggedIn("Nobody has logged in since the loader was started.")
        with ExitStack() as closing:
            with storage(self._work_dir, form.length):
                make_private_directory(self._work_dir)
                # Without a name, so that nothing is left behind, even after `kill -9`.
                big_file = closing.enter_context(tempfile.TemporaryFile(dir=self._work_dir))
                name, small = self._seal(filename, form, big_file)
                big_file.flush()
            self._publish(name, small, big_file)
        return name, small.size

    def _open(self, name: ResourceName) -> Plaintext:
        small = SmallPart.from_bytes(get_api_client().small_object(name.small))
        big = self._open_big(name, small.big) if small.big is not None else None
        try:
            return Plaintext(name, small, big)
        except BaseException:
            if big is not None:
                big.close()
            raise

    def _seal(self, filename: str, form: UploadForm, big_file: BinaryIO) -> tuple[ResourceName, SmallPart]:
        folder = form.folder_if_first()
        if folder is not None:
            name = ResourceName(folder, filename)
            small = seal_resource(form.file_pieces(), name, big_file)
            form.folder_at_end()
            return name, small
        # The folder is part of what the ciphertext is bound to: until it is known, the file waits in sealed form.
        with SealedSpool(self._work_dir, form.file_pieces()) as spool:
            name = ResourceName(form.folder_at_end(), filename)
            return name, seal_resource(spool.read(), name, big_file)

    def _publish(self, name: ResourceName, small: SmallPart, big_file: BinaryIO) -> None:
        """Big first: a small part never names a big one that is not there."""
        if small.big is not None:
            get_api_client().put_object(name.big(small.big.sha256), FilePieces(big_file, self._work_dir))
        get_api_client().put_object(name.small, small.to_bytes())


def _corrupt(name: ResourceName, exc: CorruptCiphertext) -> ResourceCorrupt:
    return ResourceCorrupt(f"{name.path} is damaged where it is stored: {exc}.")
