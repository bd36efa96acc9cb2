"""Load and upload of resources, which are models in a small and a big part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from loader.api_client import get_api_client
from loader.crypto.model_parts import ResourceName, SeekableSource, SmallPart
from loader.crypto.segments import segment_at, segment_begin
from loader.crypto.signatures import SigningKey
from loader.errors import Checkpoint, CorruptCiphertext, ResourceCorrupt
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import Stream
from loader.model_cache.part_reader import CacheReader
from loader.model_cache.proven_reader import ProvenReader
from loader.model_trust import ModelTrust
from loader.uploads.model import ModelUploads, UploadForm

log = logging.getLogger(__name__)


class Span(NamedTuple):
    """The bytes of a plaintext from `begin` to `end`."""

    begin: int
    end: int


@dataclass(frozen=True)
class Model:
    """A model as its small part describes it."""

    name: ResourceName
    small: SmallPart

    @property
    def size(self) -> int:
        """The size of the plaintext in bytes."""
        return self.small.size


# Says which bytes of a model to load. None loads no byte, so that the big part is not opened or downloaded.
Choose = Callable[[Model], Span | None]


def whole(model: Model) -> Span:
    """Choose all bytes."""
    return Span(0, model.size)


class BigSource(SeekableSource, Protocol):
    """The big part of a model, as its plaintext reads it."""

    def repair(self, begin: int, end: int) -> None:
        """Bring the bytes from `begin` to `end` once more."""

    def close(self) -> None: ...


class Plaintext:
    """Iterates over a span of the plaintext of a model in pieces of at most 1 MiB. The caller closes it.

    `size` is that of the span in bytes, `sent` that of the pieces so far. The constructor verifies the first segment,
    because an error can be reported only before the response starts. A segment that does not authenticate is downloaded
    again, once. Segments outside of the span are not read, and none is without a span. Raises ResourceCorrupt, and what
    the source raises.
    """

    def __init__(
        self, model: Model, big: BigSource | None, span: Span | None, checkpoint: Checkpoint, distrusted: set[str]
    ) -> None:
        """Call `checkpoint` before each piece. Add the digest of a big part that stays damaged to `distrusted`."""
        self.model = model
        self.span = span or Span(0, 0)
        self.size = self.span.end - self.span.begin
        self.sent = 0
        self._checkpoint = checkpoint
        self._distrusted = distrusted
        self._big = big
        first = segment_at(self.span.begin)
        self._end_segment = segment_at(self.span.end - 1) + 1 if span is not None else first
        self._segments = model.small.decrypt(model.name, big, first, self._end_segment)
        self._position = segment_begin(first)
        self._first: bytes | None = self._read() if span is not None else None
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
        """Return what belongs to the span of the next segment."""
        segment = self._next_segment()
        begin, self._position = self._position, self._position + len(segment)
        return bytes(segment[max(0, self.span.begin - begin) : self.span.end - begin])

    def _next_segment(self) -> memoryview:
        try:
            return next(self._segments)
        except CorruptCiphertext as damage:
            try:
                return self._repaired_segment(damage)
            except CorruptCiphertext as exc:
                name, big = self.model.name, self.model.small.big
                if big is not None:
                    self._distrusted.add(big.digest)
                raise ResourceCorrupt(f"{name.path} is damaged where it is stored: {exc}.") from exc

    def _repaired_segment(self, damage: CorruptCiphertext) -> memoryview:
        if damage.segment is None or self._big is None:
            raise damage
        name, small = self.model.name, self.model.small
        begin, end = small.big_range(damage.segment)
        log.warning("%s: %s; downloading %d bytes again", name.path, damage, end - begin)
        self._big.repair(begin, end)
        self._segments = small.decrypt(name, self._big, damage.segment, self._end_segment)
        return next(self._segments)


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

    def load(self, name: ResourceName, choose: Choose = whole) -> Plaintext:
        """Return the plaintext that `choose` wants, whose first segment is verified.

        If the resource does not authenticate, or failed during an earlier load, it is downloaded again and verified to
        its end first; `choose` is then asked once more, because it may be another edition. Raises NotLoggedIn,
        ResourceNotFound, UntrustedPublisher, Rollback, ResourceCorrupt, DiskSpace, StorageError, ApiFault, and what
        `choose` raises.
        """
        checkpoint = get_api_client().checkpoint()
        try:
            model = self._trusted_model(name)
            span = choose(model)
            if span is None or model.small.big is None or model.small.big.digest not in self._distrusted:
                return self._plaintext(model, span, checkpoint)
        except ResourceCorrupt as exc:
            log.warning("%s It is downloaded once more.", exc)
        model = self._trusted_model(name)
        span, big = choose(model), model.small.big
        if span is not None and big is not None:
            self._cache.discard(big.digest)
            self._verify_to_its_end(model, checkpoint)
            self._distrusted.discard(big.digest)
        return self._plaintext(model, span, checkpoint)

    def store(self, filename: str, form: UploadForm, wanted: Checkpoint = lambda: None) -> tuple[ResourceName, int]:
        """Encrypt the file of `form` while it arrives and upload it; see `ModelUploads.store`."""
        return self._uploads.store(filename, form, wanted)

    def _trusted_model(self, name: ResourceName) -> Model:
        try:
            small = SmallPart.from_bytes(get_api_client().small_object(name.small))
        except CorruptCiphertext as exc:
            raise ResourceCorrupt(f"The small part of {name.path} is damaged: {exc}.") from exc
        if self._trust is not None:
            self._trust.require(name, small)
        return Model(name, small)

    def _plaintext(self, model: Model, span: Span | None, checkpoint: Checkpoint) -> Plaintext:
        plaintext = self._opened(model, span, checkpoint)
        if self._trust is not None and span is not None:
            self._trust.accept(model.name, model.small)
        return plaintext

    def _opened(self, model: Model, span: Span | None, checkpoint: Checkpoint) -> Plaintext:
        name, part = model.name, model.small.big
        if part is None or span is None:
            return Plaintext(model, None, span, checkpoint, self._distrusted)

        def fetch(begin: int, end: int | None) -> Stream:
            return get_api_client().open_object(name.big(part), begin, end)

        reader = self._cache.open(part, name.path, fetch)
        try:
            return Plaintext(model, self._proven(name, reader), span, checkpoint, self._distrusted)
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

    def _verify_to_its_end(self, model: Model, checkpoint: Checkpoint) -> None:
        with closing(self._plaintext(model, whole(model), checkpoint)) as plaintext:
            for _ in plaintext:
                pass
