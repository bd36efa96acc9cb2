"""Load and upload of resources, which are models in a small and a big part."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from loader.api_client import get_api_client
from loader.crypto.model_parts import ResourceName, SeekableSource, SmallPart
from loader.crypto.signatures import SigningKey
from loader.errors import Checkpoint, CorruptCiphertext, ResourceCorrupt
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import CacheReader, Stream
from loader.model_cache.proven_reader import ProvenReader
from loader.model_trust import ModelTrust
from loader.uploads.model import ModelUploads, UploadForm

log = logging.getLogger(__name__)


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
        self._uploads = ModelUploads(work_dir, cache, patience, signing_key)
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
        """Encrypt the file of `form` while it arrives and upload it; see `ModelUploads.store`."""
        return self._uploads.store(filename, form)

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
