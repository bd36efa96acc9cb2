"""`images show` and `images verify`: what an archive tells without a key, and all of its bytes against its head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loader.binary_split import Archive, Stage, archive_faults, open_archive
from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import FORMAT, GZIP, Blob
from loader.crypto.blobs import open_blob, require_stored
from loader.crypto.gzip_members import decompress
from loader.crypto.pieces import PieceDigests
from loader.crypto.signatures import is_valid
from loader.errors import CorruptCiphertext
from loader.oci import require_described
from loader.publisher_keys import PublisherKeys, key_text


def read_index(path: Path) -> ArchiveIndex:
    """Return all of an archive but its blobs. Nothing of it is verified, because that needs the key.

    Raises ArchiveCorrupt, ArchiveNotFound or StorageError.
    """
    with open_archive(path) as archive:
        return archive.index


def document(archive: Archive, trusted: PublisherKeys | None = None) -> dict[str, Any]:
    """Return the JSON form: the head, with sizes and with what is absent. All sizes are in bytes.

    Signatures have the names that `trusted` gives to their keys.
    """
    head, index = archive.head, archive.index
    return {
        "format": FORMAT,
        "size": index.size,
        "key_check": index.seals.check,
        "root_id": head.root_id,
        "signatures": [asdict(one) for one in shown_signatures(index, trusted)],
        "complete": not archive.absent,
        "release": asdict(head.release),
        "images": [{**asdict(image), "size": head.unpacked_size(image)} for image in head.images],
        "blobs": [
            {**asdict(blob), "stored_size": blob.stored_size, "present": blob.digest in index.offsets}
            for blob in head.blobs
        ],
    }


@dataclass(frozen=True)
class ShownSignature:
    """One signature for people: the key in base64, and its name in PUBLISHER_KEYS, None if it is not there."""

    key: str
    name: str | None
    valid: bool


def shown_signatures(index: ArchiveIndex, trusted: PublisherKeys | None) -> Iterator[ShownSignature]:
    """Yield each signature of an archive, and whether it is one of this head."""
    for one in index.seals.signatures:
        found = trusted.find(one.key) if trusted is not None else None
        yield ShownSignature(key_text(one.key), found.name if found else None, is_valid(one, index.stored))


def verify(path: Path, fragment: bytes | None, stage: Stage, trusted: PublisherKeys | None = None) -> ArchiveIndex:
    """Read a whole archive, and return its index.

    Without a key, the stored bytes are compared with the piece digests of the head: that finds damage, but anybody can
    make such an archive. With `fragment`, the head is authenticated, the content of each blob is compared with its
    digest, and manifests and configurations are compared with the head. If there are `trusted` keys, one of them must
    have signed the head. Blobs that are absent are left out. Raises UntrustedPublisher, KeyMismatch, ArchiveCorrupt,
    ArchiveNotFound and StorageError.
    """
    with open_archive(path) as archive:
        archive.require_publisher(trusted)
        root = None if fragment is None else _root(archive, fragment)
        size = sum(blob.stored_size for blob in _present(archive))
        with stage("verifying", size) as advance, archive_faults(path):
            _Reading(archive, root, advance).verify()
        return archive.index


def _root(archive: Archive, fragment: bytes) -> bytes:
    archive.require_fragment(fragment)
    with archive_faults(archive.path):
        return archive.index.seals.open(archive.index.stored, fragment)


def _present(archive: Archive) -> Iterator[Blob]:
    absent = set(archive.absent)
    return (blob for blob in archive.head.blobs if blob not in absent)


class _Reading:
    """One reading of all blobs. Raises CorruptCiphertext."""

    def __init__(self, archive: Archive, root: bytes | None, on_read: Callable[[int], None]) -> None:
        self._archive = archive
        self._root = root
        self._on_read = on_read
        images = archive.head.images
        self._descriptions = {digest: bytearray() for image in images for digest in (image.manifest, image.config)}

    def verify(self) -> None:
        for blob in _present(self._archive):
            digests = PieceDigests()
            if self._root is None:
                self._read(blob, digests)
            else:
                self._require_content(blob, self._root, digests)
            require_stored(blob, digests)
        if self._root is not None:
            self._require_descriptions()

    def _read(self, blob: Blob, digests: PieceDigests) -> None:
        for size in self._archive.stored(blob).add_to(digests):
            self._on_read(size)

    def _require_content(self, blob: Blob, root: bytes, digests: PieceDigests) -> None:
        packed = self._counted(open_blob(self._archive.stored(blob), blob, root, digests.note))
        sha256 = hashlib.sha256()
        for piece in decompress(packed, blob.size) if blob.codec == GZIP else packed:
            sha256.update(piece)
            if blob.digest in self._descriptions:
                self._descriptions[blob.digest] += piece
        if f"sha256:{sha256.hexdigest()}" != blob.digest:
            raise CorruptCiphertext(f"the blob {blob.digest} does not have that digest")

    def _counted(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        for piece in pieces:
            self._on_read(len(piece))
            yield piece

    def _require_descriptions(self) -> None:
        absent = {blob.digest for blob in self._archive.absent}
        for image, *_ in self._archive.head.distinct_images:
            if absent.isdisjoint((image.manifest, image.config)):
                manifest, config = (bytes(self._descriptions[digest]) for digest in (image.manifest, image.config))
                require_described(self._archive.head, image, manifest, config)
