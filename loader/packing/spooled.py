"""The files of a source in the sealed spool: hashed, inflated and compressed while they pass, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from loader.crypto.archive_head import DESCRIPTION_MAX_SIZE, GZIP, PLAIN, Packed
from loader.crypto.gzip_members import compress, decompress
from loader.crypto.pieces import Digest, StreamDigest, cut
from loader.crypto.sealed_spool import Region, SealedSpool
from loader.crypto.streaming_aead import Buffer
from loader.errors import CorruptCiphertext, SourceCorrupt
from loader.packing.base import Base
from loader.packing.compression import START_PIECES, Samples, codec_of, codec_of_sample, inflated, is_gzip
from loader.packing.members import Member, follow, require_small

MAX_LAYER_SIZE = 64 << 30
Pieces = Iterator[bytes | bytearray]


@dataclass(frozen=True)
class SpooledFile:
    """One file of the source. All digests were computed here.

    `raw` are the bytes in the source, and `content` is what they are without gzip. `region` holds what `codec` makes of
    the content, which `packed` describes; it is None for a layer of the base, which is not spooled. `wanted` is the
    codec that the content deserves, as far as it is known.
    """

    raw: Digest
    content: Digest
    codec: str
    packed: Packed
    region: Region | None
    wanted: str

    @property
    def digest(self) -> str:
        """The digest of the content as OCI writes it."""
        return f"sha256:{self.content.sha256}"

    @property
    def place(self) -> Region:
        """The region of a file that is no layer of the base."""
        if self.region is None:
            raise AssertionError(f"{self.digest} was not spooled")
        return self.region


class SpooledSource:
    """All files of a source that were read."""

    def __init__(self, spool: SealedSpool, codec: str, base: Base | None) -> None:
        """`codec` is what layers may be packed with: `none`, or `gzip` where it saves enough."""
        self._spool = spool
        self._codec = codec
        self._base = base
        self._files: dict[str, SpooledFile] = {}
        self._links: dict[str, str] = {}
        self._faults: dict[str, str] = {}

    def take(self, member: Member) -> None:
        """Read a member into the spool. Raises SourceCorrupt, also for a name that is there already.

        A member that cannot be decoded is left out, because maybe no image needs it: `find` tells its fault.
        """
        if any(member.name in known for known in (self._files, self._links, self._faults)):
            raise SourceCorrupt(f"The source has {member.name!r} twice.")
        if member.target is not None:
            self._links[member.name] = member.target
            return
        try:
            self._files[member.name] = self._store(member)
        except CorruptCiphertext as exc:
            self._faults[member.name] = f"{member.name!r} of the source cannot be read: {exc}."

    def find(self, name: str) -> SpooledFile | None:
        """Return the file under this name, also if that is a link to it.

        Raises SourceCorrupt for a loop of links, and for a file that could not be decoded.
        """
        name = follow(name, self._links)
        if name in self._faults:
            raise SourceCorrupt(self._faults[name])
        return self._files.get(name)

    def document(self, name: str) -> bytes | None:
        """Return the content of a small file, None if there is none. Raises SourceCorrupt if it is large."""
        file = self.find(name)
        if file is None:
            return None
        require_small(name, file.content.size)
        if file.region is None:
            raise SourceCorrupt(f"{name!r} of the source is a layer and no description.")
        return b"".join(map(bytes, self._content(file)))

    def packed(self, file: SpooledFile) -> Iterator[Buffer]:
        """Yield the packed bytes of a spooled file; each piece is valid until the next is taken."""
        return self._spool.read(file.place)

    def improved(self, file: SpooledFile) -> SpooledFile:
        """Return the file packed with the codec that it deserves, for which it may be written once more."""
        if file.wanted == file.codec:
            return file
        content = StreamDigest()
        packed, region = self._pack(content.watch(cut(self._content(file))), file.wanted, content)
        if file.wanted == GZIP and codec_of(file.content.size, packed.size) == PLAIN:
            return file
        return replace(file, codec=file.wanted, packed=packed, region=region)

    def _content(self, file: SpooledFile) -> Iterator[Buffer]:
        packed = self.packed(file)
        return decompress(packed, file.content.size) if file.codec == GZIP else packed

    def _store(self, member: Member) -> SpooledFile:
        if member.size > MAX_LAYER_SIZE:
            raise CorruptCiphertext(f"it has {member.size} bytes, more than {MAX_LAYER_SIZE}")
        raw = content = StreamDigest()
        first, pieces = _peeked(raw.watch(cut(member.pieces)))
        if is_gzip(first):
            content = StreamDigest()
            pieces = content.watch(cut(inflated(pieces, MAX_LAYER_SIZE)))
        is_document = first[:1] in (b"{", b"[") and member.size <= DESCRIPTION_MAX_SIZE
        if is_document:
            return self._compressed(raw, content, pieces, PLAIN)
        if self._base is not None and self._base.may_have(member.size if content is raw else None):
            region = self._spool.add(pieces)
            if (blob := self._base.layers.get(f"sha256:{content.result().sha256}")) is not None:
                self._spool.drop(region)
                return SpooledFile(raw.result(), content.result(), blob.codec, blob.packed, None, blob.codec)
            pieces = cut(self._spool.read(region))
        return self._compressed(raw, content, pieces, self._codec)

    def _compressed(self, raw: StreamDigest, content: StreamDigest, pieces: Pieces, allowed: str) -> SpooledFile:
        """Spool `pieces`, which `raw` and `content` watch. Their start decides whether they are compressed."""
        start = list(islice(pieces, START_PIECES))
        codec = codec_of_sample(start) if allowed == GZIP else PLAIN
        pieces, samples = chain(start, pieces), Samples()
        if codec != allowed:
            pieces = samples.watch(pieces)
        packed, region = self._pack(pieces, codec, content)
        size = content.result().size
        wanted = codec_of(size, packed.size) if codec == GZIP else samples.codec
        return SpooledFile(raw.result(), content.result(), codec, packed, region, wanted)

    def _pack(self, pieces: Pieces, codec: str, content: StreamDigest) -> tuple[Packed, Region]:
        """Write what `codec` makes of `pieces` to the spool; `content` watches the pieces."""
        if codec == PLAIN:
            region = self._spool.add(pieces)
            return Packed(*content.result()), region
        packed = StreamDigest()
        region = self._spool.add(packed.watch(compress(pieces)))
        return Packed(*packed.result()), region


def _peeked(pieces: Pieces) -> tuple[bytes | bytearray, Pieces]:
    first = next(pieces)
    return first, chain([first], pieces)
