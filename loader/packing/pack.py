"""`images pack`: reads a source once into a sealed spool, checks it, and makes the archive in its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from loader.binary_split import Archive, Stage, archive_faults
from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.archive_head import GZIP, PLAIN, Blob, Head, Image, Packed, Release, StoredHead
from loader.crypto.archive_seals import Seals, new_root, root_id
from loader.crypto.blobs import seal_blob
from loader.crypto.pieces import PieceDigests, cut
from loader.crypto.sealed_spool import SealedSpool
from loader.crypto.signatures import SigningKey
from loader.crypto.streaming_aead import Buffer
from loader.files import replacement, storage
from loader.oci import digest_of, write_manifest
from loader.packing.base import Base
from loader.packing.choice import SoundImage, images_in, require_sound
from loader.packing.release import new_release, require_describable
from loader.packing.source_images import SourceFile
from loader.packing.sources import Source
from loader.packing.spooled import SpooledFile, SpooledSource


@dataclass(frozen=True)
class Wishes:
    """What the caller decides about an archive; None means the default. `codec` is `none` or `gzip`.

    Each of `signers` signs the release.
    """

    version: str | None = None
    serial: int | None = None
    codec: str = GZIP
    signers: tuple[SigningKey, ...] = ()


def pack(source: Source, wishes: Wishes, fragment: bytes, output: Path, stage: Stage, base: Base | None = None) -> Head:
    """Write an archive at `output`, which appears whole or not at all, and return its head.

    The head stands before the blobs and is known only after them. So everything waits in the file of the archive under
    a throw-away key, and is then sealed in its place: no plaintext is written to the disk, and the file needs its room
    once. A layer of `base` is only hashed, and its sealed blob is copied. Raises SourceCorrupt, ArchiveCorrupt,
    ValidationFailed, ImageNotFound, StorageError, DiskSpace and the faults of an engine.
    """
    with storage(output, 0), replacement(output) as file:
        spool = SealedSpool(file)
        files = SpooledSource(spool, wishes.codec, base)
        with stage("reading", source.size) as advance:
            for member in source.members(advance):
                files.take(member)
        images = _sound_images(source, files)
        root = new_root() if base is None else base.root
        contents = _collect(images, new_release(images, wishes.version, wishes.serial), root_id(root), files, base)
        with stage("sealing", sum(blob.packed.size for blob in contents.draft.blobs)) as advance:
            sealing = _Sealing(contents, root, fragment, wishes.signers, advance)
            head = sealing.write(file, spool)
            if base is not None:
                sealing.copy(base.archive, file, output)
        with archive_faults(output):
            file.seek(0)
            ArchiveIndex.read(file, os.fstat(file.fileno()).st_size)
        # Everybody may read the archive, because it is ciphertext that is made to be copied.
        os.fchmod(file.fileno(), 0o644)
    return head


def _sound_images(source: Source, files: SpooledSource) -> dict[str, SoundImage]:
    """Return the images that are wanted, by their full references, each checked once."""
    chosen = source.choose(images_in(files.document))
    sound: dict[tuple[SourceFile, ...], SoundImage] = {}
    for reference, image in chosen.items():
        if image.files not in sound:
            sound[image.files] = require_sound(reference, image, files)
    return {reference: sound[image.files] for reference, image in chosen.items()}


@dataclass(frozen=True)
class _Contents:
    """Everything that an archive holds, checked. `manifests` are our own, `files` those of the source.

    The blobs of the draft are `fresh` and, behind them, those that are copied from the base.
    """

    draft: Head
    fresh: tuple[Blob, ...]
    manifests: dict[str, bytes]
    files: dict[str, SpooledFile]
    source: SpooledSource

    @property
    def copied(self) -> tuple[Blob, ...]:
        """The blobs of the base."""
        return self.draft.blobs[len(self.fresh) :]

    def pieces(self, blob: Blob) -> Iterator[Buffer]:
        """Yield the packed bytes of a fresh blob; each piece is valid until the next is taken."""
        manifest = self.manifests.get(blob.digest)
        return self.source.packed(self.files[blob.digest]) if manifest is None else iter([manifest])

    def head(self, stored: Mapping[str, str]) -> StoredHead:
        """Return the head with the piece digests of the fresh blobs, by the digests of their content."""
        fresh = tuple(replace(blob, stored=stored[blob.digest]) for blob in self.fresh)
        return StoredHead.of(replace(self.draft, blobs=(*fresh, *self.copied)))


def _collect(
    images: Mapping[str, SoundImage], release: Release, root_id: str, source: SpooledSource, base: Base | None
) -> _Contents:
    """Return the contents for these images, which have full references.

    Content that occurs several times is kept once. The blobs of the source come in the order of the spool, because it
    is overwritten while it is read; behind them come those of the base. Raises SourceCorrupt, and ValidationFailed for
    what an archive cannot hold.
    """
    files: dict[str, SpooledFile] = {}
    manifests: dict[str, bytes] = {}
    described = []
    for reference, image in images.items():
        for file in (image.config, *image.layers):
            files.setdefault(file.digest, file)
        manifest = _manifest(image)
        manifests[digest_of(manifest)] = manifest
        described.append(_describe(reference, image, digest_of(manifest)))
    copied = [base.layers[digest] for digest, file in files.items() if base is not None and file.region is None]
    improved = [source.improved(file) for file in files.values() if file.region is not None]
    files = {file.digest: file for file in sorted(improved, key=lambda file: file.place.offset)}
    packed = {digest: Packed(digest.removeprefix("sha256:"), len(data)) for digest, data in manifests.items()}
    fresh = [_blob(digest, one.size, PLAIN, one) for digest, one in packed.items()]
    fresh += [_blob(digest, file.content.size, file.codec, file.packed) for digest, file in files.items()]
    draft = Head(release, root_id, tuple(described), (*fresh, *copied))
    require_describable(draft)
    return _Contents(draft, tuple(fresh), manifests, files, source)


def _manifest(image: SoundImage) -> bytes:
    config, *layers = ((file.digest, file.content.size) for file in (image.config, *image.layers))
    return write_manifest(config, layers)


def _describe(reference: str, image: SoundImage, manifest: str) -> Image:
    layers = tuple(layer.digest for layer in image.layers)
    return Image(reference, image.platform, image.created, manifest, image.config.digest, layers)


def _blob(digest: str, size: int, codec: str, packed: Packed) -> Blob:
    # Another digest of the same length stands for the piece digest, which only sealing tells.
    return Blob(digest, size, codec, packed, packed.sha256)


class _Sealing:
    """Seals the fresh blobs of an archive in the place of the spool, and copies those of the base behind them."""

    def __init__(
        self,
        contents: _Contents,
        root: bytes,
        fragment: bytes,
        signers: Sequence[SigningKey],
        on_written: Callable[[int], None],
    ) -> None:
        self._contents = contents
        self._root = root
        self._fragment = fragment
        self._signers = signers
        self._on_written = on_written
        self._digests: dict[str, str] = {}

    def write(self, file: BinaryIO, spool: SealedSpool) -> Head:
        """Write the start of the archive, whose size is known before its digests, after the fresh blobs behind it."""
        size = len(self._start(StoredHead.of(self._contents.draft)))
        spool.overwrite(self._blobs(), size)
        stored = self._contents.head(self._digests)
        start = self._start(stored)
        if len(start) != size:
            raise AssertionError(f"the start of the archive has {len(start)} bytes instead of {size}")
        file.seek(0)
        file.write(start)
        file.flush()
        return stored.head

    def copy(self, base: Archive, file: BinaryIO, output: Path) -> None:
        """Write the blobs of the base behind the fresh ones."""
        offset = os.fstat(file.fileno()).st_size
        for blob in self._contents.copied:
            base.copy(blob, file, output, offset, self._on_written)
            offset += blob.stored_size

    def _start(self, stored: StoredHead) -> bytes:
        signatures = tuple(signer.sign(stored) for signer in self._signers)
        seals = replace(Seals.make(stored, self._root, self._fragment), signatures=signatures)
        return archive_start(stored, seals, stored.head.blobs)

    def _blobs(self) -> Iterator[bytes | bytearray]:
        for blob in self._contents.fresh:
            digests = PieceDigests()
            for piece in cut(seal_blob(self._contents.pieces(blob), blob.packed, self._root)):
                digests.add(piece)
                self._on_written(len(piece))
                yield piece
            self._digests[blob.digest] = digests.hex()
