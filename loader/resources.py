"""Load and upload of resources, which are models in a small and a big part."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from loader.api_client import get_api_client
from loader.crypto.json_header import INTEGER_LIMIT
from loader.crypto.model_parts import Edition, ResourceName, SealedModel, SeekableSource, SmallPart, seal_model
from loader.crypto.sealed_spool import SealedSpool
from loader.crypto.signatures import SigningKey
from loader.errors import Checkpoint, CorruptCiphertext, ResourceCorrupt, ResourceNotFound
from loader.files import FilePieces, storage
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import CacheReader, Stream
from loader.model_cache.proven_reader import ProvenReader
from loader.model_trust import ModelTrust
from loader.patience import persist

log = logging.getLogger(__name__)

T = TypeVar("T")


class UploadForm(Protocol):
    """An upload form, whose parts are read once and in the order in which they come. `length` is its size in bytes."""

    @property
    def length(self) -> int: ...

    def folder_if_first(self) -> str | None:
        """Read up to the file. Return the folder if it came before the file, otherwise None."""

    def file_pieces(self) -> Iterator[bytes]:
        """Yield the content of the file."""

    def folder_at_end(self) -> str:
        """Read what follows the file, to the end of the form. Return the folder."""


class BigSource(SeekableSource, Protocol):
    """The big part of a model, as its plaintext reads it."""

    def repair(self, begin: int, end: int) -> None:
        """Bring the bytes from `begin` to `end` once more."""

    def close(self) -> None: ...


class Plaintext:
    """Iterates over the plaintext of a resource in pieces of at most 1 MiB. The caller closes it.

    `size` is that of the whole plaintext in bytes, `sent` that of the pieces so far. The constructor verifies the first
    segment, because an error can be reported only before the response starts. A segment that does not authenticate is
    downloaded again, once. Raises ResourceCorrupt, and what the source raises.
    """

    def __init__(
        self,
        name: ResourceName,
        small: SmallPart,
        big: BigSource | None,
        checkpoint: Checkpoint,
        distrusted: set[str],
    ) -> None:
        """Call `checkpoint` before each piece. Add the digest of a big part that stays damaged to `distrusted`."""
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
                    self._distrusted.add(self._small.big.digest)
                raise ResourceCorrupt(f"{self._name.path} is damaged where it is stored: {exc}.") from exc

    def _read_repaired(self, damage: CorruptCiphertext) -> bytes:
        if damage.segment is None or self._big is None:
            raise damage
        begin, end = self._small.big_range(damage.segment)
        log.warning("%s: %s; downloading %d bytes again", self._name.path, damage, end - begin)
        self._big.repair(begin, end)
        self._segments = self._small.decrypt(self._name, self._big, damage.segment)
        return bytes(next(self._segments))


class ResourceStore:
    """Loads and stores resources. Uploads write ciphertext, and nothing else, to `work_dir`."""

    def __init__(
        self,
        work_dir: Path,
        cache: ModelCache,
        patience: float,
        *,
        trust: ModelTrust | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        """An upload that the API interrupts is tried again for `patience` seconds.

        `trust` says which models are loaded, None is all of them. `signing_key` signs uploads.
        """
        self._trust = trust
        self._signing_key = signing_key
        self._patience = patience
        self._work_dir = work_dir
        self._cache = cache
        # Digests of big parts that stayed damaged after a repair; the next load fetches them again as a whole.
        self._distrusted: set[str] = set()

    def load(self, name: ResourceName) -> Plaintext:
        """Return the plaintext of the resource, whose first segment is verified.

        If the resource does not authenticate, or failed during an earlier load, it is downloaded again and verified to
        its end first. Raises NotLoggedIn, ResourceNotFound, UntrustedPublisher, Rollback, ResourceCorrupt, DiskSpace,
        StorageError and ApiFault.
        """
        checkpoint = get_api_client().checkpoint()
        try:
            small = self._trusted_small_part(name)
            if small.big is None or small.big.digest not in self._distrusted:
                return self._plaintext(name, small, checkpoint)
        except ResourceCorrupt as exc:
            log.warning("%s It is downloaded once more.", exc)
        small = self._trusted_small_part(name)
        if small.big is not None:
            self._cache.discard(small.big.digest)
            self._verify_to_its_end(name, small, checkpoint)
            self._distrusted.discard(small.big.digest)
        return self._plaintext(name, small, checkpoint)

    def store(self, filename: str, form: UploadForm) -> tuple[ResourceName, int]:
        """Encrypt the file of `form` while it arrives, split it and upload both parts. Return its name and its size.

        The upload to the API starts once the whole form has been read. The big part stays in the cache. Raises
        NotLoggedIn, DiskSpace, StorageError, ApiFault and what `form` raises.
        """
        checkpoint = get_api_client().checkpoint()
        with self._cache.upload(form.length) as big_file:
            with storage(self._work_dir, form.length):
                name, sealed = self._seal(filename, form, big_file, checkpoint)
                big_file.flush()
            with self._cache.adopting(big_file, sealed.big) if sealed.big is not None else nullcontext():
                self._publish(name, sealed, big_file, checkpoint)
        return name, sealed.size

    def _small_part(self, name: ResourceName) -> SmallPart:
        try:
            return SmallPart.from_bytes(get_api_client().small_object(name.small))
        except CorruptCiphertext as exc:
            raise ResourceCorrupt(f"The small part of {name.path} is damaged: {exc}.") from exc

    def _trusted_small_part(self, name: ResourceName) -> SmallPart:
        small = self._small_part(name)
        if self._trust is not None:
            self._trust.require(name, small)
        return small

    def _plaintext(self, name: ResourceName, small: SmallPart, checkpoint: Checkpoint) -> Plaintext:
        plaintext = self._opened(name, small, checkpoint)
        if self._trust is not None:
            self._trust.accept(name, small)
        return plaintext

    def _opened(self, name: ResourceName, small: SmallPart, checkpoint: Checkpoint) -> Plaintext:
        if small.big is None:
            return Plaintext(name, small, None, checkpoint, self._distrusted)
        part = small.big

        def fetch(begin: int, end: int | None) -> Stream:
            return get_api_client().open_object(name.big(part), begin, end)

        reader = self._cache.open(part, name.path, fetch)
        try:
            return Plaintext(name, small, self._proven(name, reader), checkpoint, self._distrusted)
        except BaseException:
            reader.close()
            raise

    def _proven(self, name: ResourceName, reader: CacheReader) -> BigSource:
        """Return a reader of a big part that releases only what the signature of the small part covers."""
        if self._trust is None:
            return reader
        try:
            return ProvenReader(reader)
        except CorruptCiphertext as exc:
            self._distrusted.add(reader.file.part.digest)
            raise ResourceCorrupt(f"{name.path} is damaged where it is stored: {exc}.") from exc

    def _verify_to_its_end(self, name: ResourceName, small: SmallPart, checkpoint: Checkpoint) -> None:
        with closing(self._plaintext(name, small, checkpoint)) as plaintext:
            for _ in plaintext:
                pass

    def _seal(
        self, filename: str, form: UploadForm, big_file: BinaryIO, checkpoint: Checkpoint
    ) -> tuple[ResourceName, SealedModel]:
        folder = form.folder_if_first()
        pieces = _check_each_piece(form.file_pieces(), checkpoint)
        if folder is not None:
            name = ResourceName(folder, filename)
            sealed = seal_model(pieces, name, big_file)
            form.folder_at_end()
            return name, sealed
        # Spool the file until its folder is known, because the folder is associated data of the ciphertext. The spool
        # has no name, because nothing of it must stay after `kill -9`.
        with tempfile.TemporaryFile(dir=self._work_dir) as file:
            spool = SealedSpool(file)
            region = spool.add(pieces)
            name = ResourceName(form.folder_at_end(), filename)
            self._cache.free_disk_space(region.size)
            return name, seal_model(spool.read(region), name, big_file)

    def _publish(self, name: ResourceName, sealed: SealedModel, big_file: BinaryIO, checkpoint: Checkpoint) -> None:
        """Upload the big part first, because a small part must never name a big one that is not there."""
        if sealed.big is not None:
            body = FilePieces(big_file, self._work_dir, checkpoint)
            self._put(name.big(sealed.big), body, checkpoint)
        present = self._patiently(name.small, checkpoint, lambda: self._present_serial(name))
        small = sealed.described(_next_edition(present))
        if self._signing_key is not None:
            small = replace(small, signatures=(self._signing_key.sign(small.named(name)),))
        self._put(name.small, small.to_bytes(), checkpoint)

    def _present_serial(self, name: ResourceName) -> int:
        """Return the serial of the edition that the API has, 0 if it has none that can be read."""
        try:
            return self._small_part(name).edition.serial
        except (ResourceNotFound, ResourceCorrupt) as exc:
            log.info("the upload of %s replaces no edition: %s", name.path, exc)
            return 0

    def _put(self, path: str, body: FilePieces | bytes, checkpoint: Checkpoint) -> None:
        """Send `body` until the API has it; both parts are sealed and on the disk, so a failure costs only time."""
        self._patiently(path, checkpoint, lambda: get_api_client().put_object(path, body))

    def _patiently(self, path: str, checkpoint: Checkpoint, request: Callable[[], T]) -> T:
        return persist(request, self._patience, f"the upload of {path}", checkpoint)


def _next_edition(present: int) -> Edition:
    """Return the edition of an upload that replaces one with the serial `present`.

    Its serial is the time in milliseconds, because any machine may upload, or one more where a clock is behind.
    """
    now = datetime.now(UTC)
    serial = max(int(now.timestamp() * 1000), present + 1)
    # Whoever made a serial that nothing can follow wanted to block the name, which only replacing it undoes.
    serial = serial if serial < INTEGER_LIMIT else int(now.timestamp() * 1000)
    return Edition(serial, now.isoformat(timespec="seconds").replace("+00:00", "Z"))


def _check_each_piece(pieces: Iterator[bytes], checkpoint: Checkpoint) -> Iterator[bytes]:
    for piece in pieces:
        checkpoint()
        yield piece
