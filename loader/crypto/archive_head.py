"""The head of `images.enc`: which images an archive holds, and the blobs that they consist of. Readable without a key.

The rules of docs/formats.md are checked here, without files and without keys. Digests are SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from loader.crypto.json_header import (
    JSON_MAX_SIZE,
    LENGTH_SIZE,
    exactly,
    is_integer,
    is_size,
    is_text,
    is_time,
    read_json,
    require,
    write_json,
)
from loader.crypto.segments import ciphertext_size
from loader.errors import CorruptCiphertext
from loader.references import is_full_reference, is_own_reference, is_version

FORMAT = 2
PLAIN, GZIP = "none", "gzip"
MAX_REFERENCES = 256
MAX_LAYERS = 128
MAX_BLOBS = 4096
CREATED_MAX_LENGTH = 64
RELEASE_LABEL = b"azaion-loader/2 release\0"
# The largest manifest or configuration of an image, which are held in memory; registries have the same limit.
DESCRIPTION_MAX_SIZE = 4 << 20

_HEX_32 = re.compile(r"[0-9a-f]{32}")
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLATFORM = re.compile(r"(?=.{3,64}\Z)[a-z0-9]+/[a-z0-9_]+(/[a-z0-9._-]+)?")


@dataclass(frozen=True)
class Release:
    """What the archive is: `version` is the tag that devices ask for, `serial` grows, `created` is RFC 3339."""

    version: str
    serial: int
    created: str

    @classmethod
    def parse(cls, document: Any) -> Release:
        """Parse the field `release`. Raises CorruptCiphertext."""
        version, serial, created = _fields(document, "release", "version", "serial", "created")
        require(isinstance(version, str) and is_version(version), "version")
        require(is_integer(serial), "serial")
        require(is_time(created), "created")
        return cls(version, serial, created)


@dataclass(frozen=True)
class Image:
    """One image under one full name.

    `platform` is `os/architecture` or `os/architecture/variant`. `created` is the time at which the image was built, as
    its configuration tells, or empty. `manifest`, `config` and `layers` are digests of blobs; a layer's is its diff ID.
    """

    reference: str
    platform: str
    created: str
    manifest: str
    config: str
    layers: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        """The IDs that an engine may give exactly this image: the one or the other, as its image store wants."""
        return frozenset({self.config, self.manifest})

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests of all blobs of the image; a layer may stand in it twice."""
        return (self.manifest, self.config, *self.layers)


@dataclass(frozen=True)
class Packed:
    """The bytes of a blob that are sealed: SHA-256 in hex, and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Blob:
    """One blob: a layer, a manifest or a configuration.

    `digest` and `size` in bytes are those of the content, `packed` are those of what `codec` makes of it. `stored` is
    the piece digest of the sealed bytes.
    """

    digest: str
    size: int
    codec: str
    packed: Packed
    stored: str

    @property
    def stored_size(self) -> int:
        """The bytes that the blob takes in an archive."""
        return ciphertext_size(self.packed.size)

    @classmethod
    def parse(cls, document: Any) -> Blob:
        """Parse one entry of `blobs`. Raises CorruptCiphertext."""
        digest, size, codec, packed, stored = _fields(document, "blobs", "digest", "size", "codec", "packed", "stored")
        require(is_text(digest, _DIGEST), "digest")
        require(is_size(size), "size")
        require(codec in (PLAIN, GZIP), "codec")
        packed_sha256, packed_size = _fields(packed, "packed", "sha256", "size")
        require(is_text(packed_sha256, _HEX_64) and is_size(packed_size), "packed")
        require(codec == GZIP or (f"sha256:{packed_sha256}", packed_size) == (digest, size), "packed")
        require(is_text(stored, _HEX_64), "stored")
        return cls(digest, size, codec, Packed(packed_sha256, packed_size), stored)


@dataclass(frozen=True)
class Head:
    """The head: release, images, and blobs in the order in which they are stored. `root_id` is 32 hex digits."""

    release: Release
    root_id: str
    images: tuple[Image, ...]
    blobs: tuple[Blob, ...]

    @cached_property
    def blob(self) -> dict[str, Blob]:
        """The blobs by the digests of their content."""
        return {blob.digest: blob for blob in self.blobs}

    @property
    def distinct_images(self) -> tuple[tuple[Image, ...], ...]:
        """The images, those that are the same under several names together, in the order of the head."""
        names: dict[str, list[Image]] = {}
        for image in self.images:
            names.setdefault(image.manifest, []).append(image)
        return tuple(map(tuple, names.values()))

    def unpacked_size(self, image: Image) -> int:
        """Return the bytes of the layers of an image. An engine unpacks a layer that stands in it twice both times."""
        return sum(self.blob[layer].size for layer in image.layers)

    def document(self) -> dict[str, Any]:
        """Return the JSON form. An image that was described before costs only its name and its manifest."""
        described: set[str] = set()
        images = []
        for image in self.images:
            again = image.manifest in described
            described.add(image.manifest)
            images.append({"reference": image.reference, "manifest": image.manifest} if again else asdict(image))
        blobs = [asdict(blob) for blob in self.blobs]
        release = asdict(self.release)
        return {"format": FORMAT, "release": release, "root_id": self.root_id, "images": images, "blobs": blobs}

    def to_bytes(self) -> bytes:
        """Return uint32 BE H and the head as it is stored. Raises ValueError if it has more than 1 MiB."""
        return write_json(self.document(), JSON_MAX_SIZE)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Head:
        """Parse a JSON object. Raises CorruptCiphertext for anything that the format does not allow."""
        number, release, root_id, images, blobs = exactly(document, "format", "release", "root_id", "images", "blobs")
        require(is_integer(number) and number == FORMAT, "format")
        require(is_text(root_id, _HEX_32), "root_id")
        require(isinstance(images, list) and 1 <= len(images) <= MAX_REFERENCES, "images")
        require(isinstance(blobs, list) and len(blobs) <= MAX_BLOBS, "blobs")
        head = cls(Release.parse(release), root_id, tuple(_parse_images(images)), tuple(map(Blob.parse, blobs)))
        head.require_consistency()
        return head

    def require_consistency(self) -> None:
        """Raise CorruptCiphertext unless all parts of the head belong together."""
        references = [image.reference for image in self.images]
        require(len(set(references)) == len(references), "images")
        require(len({blob.stored for blob in self.blobs}) == len(self.blob) == len(self.blobs), "blobs")
        require(self.blob.keys() == {digest for image in self.images for digest in image.blobs}, "blobs")
        layers = {digest for image in self.images for digest in image.layers}
        for image in self.images:
            for description in (image.manifest, image.config):
                require(description not in layers and self.blob[description].size <= DESCRIPTION_MAX_SIZE, "blobs")
        require(is_size(sum(blob.stored_size for blob in self.blobs)), "blobs")


@dataclass(frozen=True)
class StoredHead:
    """A head with its bytes as they stand in the file, because those are authenticated: uint32 BE H | head."""

    head: Head
    raw: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The SHA-256 of the JSON of the head, in hex, which names exactly this head."""
        return hashlib.sha256(self.raw[LENGTH_SIZE:]).hexdigest()

    @property
    def signed(self) -> bytes:
        """What a signature of the release covers."""
        return RELEASE_LABEL + self.raw

    @classmethod
    def of(cls, head: Head) -> StoredHead:
        """Return the stored form of a new head. Raises ValueError if it has more than 1 MiB or breaks a rule."""
        raw = head.to_bytes()
        try:
            document, _ = read_json(io.BytesIO(raw).read, JSON_MAX_SIZE)
            return cls(Head.parse(document), raw)
        except CorruptCiphertext as exc:
            raise ValueError(f"the archive cannot be described: {exc}") from exc


def _parse_images(documents: list[Any]) -> Iterator[Image]:
    described: dict[str, Image] = {}
    for document in documents:
        if isinstance(document, dict) and document.keys() == {"reference", "manifest"}:
            require(isinstance(document["manifest"], str) and document["manifest"] in described, "manifest")
            same = described[document["manifest"]]
            yield replace(same, reference=_reference(document["reference"]))
            continue
        image = _parse_image(document)
        # Only one description of an image is allowed, because readers could differ in which of two they take.
        require(image.manifest not in described, "images")
        described[image.manifest] = image
        yield image


def _parse_image(document: Any) -> Image:
    fields = _fields(document, "images", "reference", "platform", "created", "manifest", "config", "layers")
    reference, platform, created, manifest, config, layers = fields
    require(is_platform(platform), "platform")
    require(is_created(created), "created")
    require(is_text(manifest, _DIGEST) and is_text(config, _DIGEST) and manifest != config, "manifest")
    require(isinstance(layers, list) and len(layers) <= MAX_LAYERS, "layers")
    require(all(is_text(layer, _DIGEST) for layer in layers), "layers")
    return Image(_reference(reference), platform, created, manifest, config, tuple(layers))


def is_platform(value: object) -> bool:
    """Return whether a head can name this platform of an image."""
    return is_text(value, _PLATFORM)


def is_created(value: object) -> bool:
    """Return whether a head can name this time at which an image was built; empty if nobody knows it."""
    return isinstance(value, str) and len(value) <= CREATED_MAX_LENGTH and (not value or value.isprintable())


def _reference(value: Any) -> str:
    require(isinstance(value, str) and is_full_reference(value) and not is_own_reference(value), "reference")
    return str(value)


def _fields(document: Any, field_: str, *fields: str) -> tuple[Any, ...]:
    require(isinstance(document, dict), field_)
    return exactly(document, *fields)
