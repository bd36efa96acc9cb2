"""Resources: models in big and small parts, opened for a load and sealed for an upload."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from loader.api_client import get_api_client
from loader.crypto.model_parts import BigPart, ResourceName, SmallPart, seal_resource
from loader.crypto.sealed_spool import SealedSpool
from loader.errors import Checkpoint, CorruptCiphertext, ResourceCorrupt
from loader.files import FilePieces, storage
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import CacheReader, Stream

log = logging.getLogger(__name__)


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

    The first segment has verified when this exists, so that what can go wrong early does so before an answer begins. A
    segment that does not verify is fetched anew, once. Raises ResourceCorrupt, or what the source raises. `close` gives
    the source back, finished or not.
    """

    def __init__(
        self,
        name: ResourceName,
        small: SmallPart,
        big: CacheReader | None,
        checkpoint: Checkpoint,
        distrusted: set[str],
    ) -> None:
        """Call `checkpoint` for each piece; it may raise. Digests of parts that stay damaged go into `distrusted`."""
        self._name = name
        self._checkpoint = checkpoint
        self._distrusted = distrusted
        self._small = small
        self._big = big
        self._segments = small.decrypt(name, big)
        self.size = small.size
        self.sent = 0
        self._first: bytes | None = self._read()
        # Check here, because a failure can no longer be reported once the response has started.
        self._checkpoint()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            self._checkpoint()
            piece = self._read()
        self.sent += len(piece)
        return piece

    def close(self) -> None:
        if self._big is not None:
            self._big.close()

    def _read(self) -> bytes:
        try:
            return bytes(next(self._segments))
        except CorruptCiphertext as damage:
            try:
                return self._read_repaired(damage)
            except CorruptCiphertext as exc:
                if self._small.big is not None:
                    self._distrusted.add(self._small.big.sha256)
                raise ResourceCorrupt(f"{self._name.path} is damaged where it is stored: {exc}.") from exc

    def _read_repaired(self, damage: CorruptCiphertext) -> bytes:
        if damage.segment is None or self._big is None:
            raise damage
        begin, end = self._small.big_range(damage.segment)
        log.warning("%s: %s, fetching %d bytes anew", self._name.path, damage, end - begin)
        self._big.repair(begin, end)
        self._segments = self._small.decrypt(self._name, self._big, damage.segment)
        return bytes(next(self._segments))


class ResourceStore:
    """Loads and stores resources. `work_dir` holds what an upload must put on disk, which is ciphertext only."""

    def __init__(self, work_dir: Path, cache: ModelCache) -> None:
        self._work_dir = work_dir
        self._cache = cache
        # Digests of big parts that stayed damaged after a repair; the next load fetches them again as a whole.
        self._distrusted: set[str] = set()

    def load(self, name: ResourceName) -> Plaintext:
        """The resource, its first segment verified.

        What does not authenticate is fetched anew and then read to its end before this returns; so is what has failed
        in the middle of an earlier load. Raises NotLoggedIn, ResourceNotFound, ResourceCorrupt, DiskSpace, StorageError
        and the faults of the API.
        """
        checkpoint = get_api_client().checkpoint()
        try:
            small = self._small_part(name)
            if small.big is None or small.big.sha256 not in self._distrusted:
                return self._plaintext(name, small, checkpoint)
        except ResourceCorrupt as exc:
            log.warning("%s It is fetched once more.", exc)
        small = self._small_part(name)
        if small.big is not None:
            self._cache.discard(small.big.sha256)
            self._prove(name, small, checkpoint)
            self._distrusted.discard(small.big.sha256)
        return self._plaintext(name, small, checkpoint)

    def store(self, filename: str, form: UploadForm) -> tuple[ResourceName, int]:
        """Encrypt the file of `form` as it comes, split it and upload both parts; its name and size in bytes.

        Nothing is uploaded unless the whole form was read. The big part stays in the cache. Raises NotLoggedIn,
        DiskSpace, StorageError, what `form` raises and the faults of the API.
        """
        checkpoint = get_api_client().checkpoint()
        with self._cache.upload(form.length) as big_file:
            with storage(self._work_dir, form.length):
                name, small = self._seal(filename, form, big_file, checkpoint)
                big_file.flush()
            with self._cache.adopting(big_file, small.big) if small.big is not None else nullcontext():
                self._publish(name, small, big_file, checkpoint)
        return name, small.size

    def _small_part(self, name: ResourceName) -> SmallPart:
        try:
            return SmallPart.from_bytes(get_api_client().small_object(name.small))
        except CorruptCiphertext as exc:
            raise ResourceCorrupt(f"The small part of {name.path} is damaged: it {exc}.") from exc

    def _plaintext(self, name: ResourceName, small: SmallPart, checkpoint: Checkpoint) -> Plaintext:
        if small.big is None:
            return Plaintext(name, small, None, checkpoint, self._distrusted)
        big = self._open_big(name, small.big)
        try:
            return Plaintext(name, small, big, checkpoint, self._distrusted)
        except BaseException:
            big.close()
            raise

    def _open_big(self, name: ResourceName, part: BigPart) -> CacheReader:
        def fetch(begin: int, end: int | None, etag: str | None) -> Stream:
            return get_api_client().open_object(name.big(part.sha256), begin, end, etag)

        return self._cache.open(part, name.path, fetch)

    def _prove(self, name: ResourceName, small: SmallPart, checkpoint: Checkpoint) -> None:
        with closing(self._plaintext(name, small, checkpoint)) as plaintext:
            for _ in plaintext:
                pass

    def _seal(
        self, filename: str, form: UploadForm, big_file: BinaryIO, checkpoint: Checkpoint
    ) -> tuple[ResourceName, SmallPart]:
        folder = form.folder_if_first()
        pieces = _check_each_piece(form.file_pieces(), checkpoint)
        if folder is not None:
            name = ResourceName(folder, filename)
            small = seal_resource(pieces, name, big_file)
            form.folder_at_end()
            return name, small
        # The folder is part of what the ciphertext is bound to: until it is known, the file waits in sealed form.
        # In a file without a name, of which nothing is left behind even after `kill -9`.
        with tempfile.TemporaryFile(dir=self._work_dir) as file:
            spool = SealedSpool(file, pieces)
            name = ResourceName(form.folder_at_end(), filename)
            self._cache.free_disk_space(spool.size)
            return name, seal_resource(spool.read(), name, big_file)

    def _publish(self, name: ResourceName, small: SmallPart, big_file: BinaryIO, checkpoint: Checkpoint) -> None:
        """Big first: a small part never names a big one that is not there."""
        if small.big is not None:
            get_api_client().put_object(name.big(small.big.sha256), FilePieces(big_file, self._work_dir, checkpoint))
        checkpoint()
        get_api_client().put_object(name.small, small.to_bytes())


def _check_each_piece(pieces: Iterator[bytes], checkpoint: Checkpoint) -> Iterator[bytes]:
    for piece in pieces:
        checkpoint()
        yield piece
