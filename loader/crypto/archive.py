"""`images.enc`: an encrypted archive of Docker images.

    AZIMAGE1 | uint32 BE N | N bytes of JSON, the manifest | streaming ciphertext of the tar, `docker save` form

The key material is the key fragment. The associated data is all bytes before the ciphertext, so that a changed manifest
makes the first segment fail. Anybody can read the manifest without the key; it is proven once a segment is verified.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from loader.crypto.json_header import exactly, is_size, read_header, require, write_header
from loader.crypto.segments import ciphertext_size, key_check
from loader.crypto.streaming_aead import Buffer, DecryptingReader, Source, VerifyingReader, encrypt
from loader.errors import CorruptCiphertext

MAGIC = b"AZIMAGE1"
FRAGMENT_MIN_SIZE = 32
FRAGMENT_MAX_SIZE = 4096

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_KEY_CHECK = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ManifestImage:
    """One image as the engine that saved it described it: reference with tag, ID, diff IDs of layers, RFC 3339 time."""

    reference: str
    id: str
    layers: tuple[str, ...]
    created: str

    @property
    def tag(self) -> str:
        """The part of the reference behind its last colon; empty if it has no tag."""
        return self.reference.rpartition("/")[2].partition(":")[2]

    @classmethod
    def parse(cls, document: Any) -> ManifestImage:
        """Parse one entry of a manifest. Raises CorruptCiphertext."""
        require(isinstance(document, dict), "images")
        reference, image_id, layers, created = exactly(document, "reference", "id", "layers", "created")
        require(isinstance(reference, str) and reference.isprintable() and 0 < len(reference) <= 512, "reference")
        require(isinstance(image_id, str) and _DIGEST.fullmatch(image_id), "id")
        require(isinstance(layers, list) and all(isinstance(x, str) and _DIGEST.fullmatch(x) for x in layers), "layers")
        require(isinstance(created, str) and created.isprintable() and len(created) <= 64, "created")
        return cls(reference, image_id, tuple(layers), created)


@dataclass(frozen=True)
class Manifest:
    """The description of an archive. `tar_size` is in bytes, `created` is RFC 3339."""

    images: tuple[ManifestImage, ...]
    tar_size: int
    key_check: str
    created: str

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Manifest:
        """Parse a JSON object. Raises CorruptCiphertext for anything that the format does not allow."""
        images, tar_size, check, created = exactly(document, "images", "tar_size", "key_check", "created")
        require(isinstance(images, list) and images, "images")
        parsed = tuple(ManifestImage.parse(image) for image in images)
        require(len({image.reference for image in parsed}) == len(parsed), "images")
        require(is_size(tar_size), "tar_size")
        require(isinstance(check, str) and _KEY_CHECK.fullmatch(check), "key_check")
        require(isinstance(created, str) and _RFC_3339.fullmatch(created), "created")
        return cls(parsed, tar_size, check, created)


@dataclass(frozen=True)
class ArchiveHeader:
    """The part of an archive that is readable without the key. `raw` is the associated data of the ciphertext."""

    manifest: Manifest
    raw: bytes

    @classmethod
    def read(cls, archive: BinaryIO) -> ArchiveHeader:
        """Read the header at the position of `archive`, up to the ciphertext. Raises CorruptCiphertext."""
        document, raw = read_header(MAGIC, archive.read)
        return cls(Manifest.parse(document), raw)

    @property
    def archive_size(self) -> int:
        """The size that the whole archive must have, in bytes."""
        return len(self.raw) + ciphertext_size(self.manifest.tar_size)

    def matches(self, fragment: bytes) -> bool:
        """Return whether the archive was made with `fragment`, as far as its header tells."""
        return (
            FRAGMENT_MIN_SIZE <= len(fragment) <= FRAGMENT_MAX_SIZE and key_check(fragment) == self.manifest.key_check
        )

    def decrypt(self, ciphertext: Source, fragment: bytes) -> DecryptingReader:
        """Return a reader of the tar. `ciphertext` must stand at the start of the ciphertext."""
        return DecryptingReader(ciphertext, ciphertext_size(self.manifest.tar_size), fragment, self.raw)

    def verify(self, ciphertext: Source, fragment: bytes) -> VerifyingReader:
        """Return a reader that verifies the tar without decrypting it. `ciphertext` is as for `decrypt`."""
        return VerifyingReader(ciphertext, ciphertext_size(self.manifest.tar_size), fragment, self.raw)


def seal_archive(manifest: Manifest, tar: Iterable[Buffer], fragment: bytes) -> Iterator[Buffer]:
    """Yield the bytes of an archive. Raises ValueError, without an end that authenticates, if `tar` has another size
    than `manifest.tar_size`."""
    header = write_header(MAGIC, manifest.document())
    yield header
    yield from encrypt(_of_size(tar, manifest.tar_size), fragment, header)


def _of_size(pieces: Iterable[Buffer], size: int) -> Iterator[Buffer]:
    total = 0
    for piece in pieces:
        total += len(piece)
        yield piece
    if total != size:
        raise ValueError(f"the tar has {total} bytes instead of {size}")


def read_archive_header(archive: BinaryIO) -> ArchiveHeader:
    """Return the header of the open file `archive`. Raises CorruptCiphertext, also if the file has another size."""
    header = ArchiveHeader.read(archive)
    size = os.fstat(archive.fileno()).st_size
    if size != header.archive_size:
        raise CorruptCiphertext(f"it has {size} bytes instead of {header.archive_size}")
    return header
