"""The images of an OCI image layout: its index.json, nested indexes, and manifests of OCI and of Docker.

Sources: OCI image specification 1.1 (image-layout.md, image-index.md, manifest.md, annotations.md); Docker's image
manifest version 2, schema 2; BuildKit, "Image attestation storage".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loader.errors import SourceCorrupt
from loader.oci import INDEX_TYPE, MANIFEST_TYPE, blob_path, digest_of
from loader.packing.members import require_small
from loader.packing.source_images import (
    Read,
    SourceFile,
    SourceImage,
    full_name,
    malformed,
    missing,
    parse,
    read_settings,
)
from loader.references import is_version

INDEX = "index.json"
MAX_DEPTH = 4
MAX_DESCRIPTORS = 4096
NAME_ANNOTATION = "io.containerd.image.name"
TAG_ANNOTATION = "org.opencontainers.image.ref.name"
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"
UNKNOWN_PLATFORM = "unknown/unknown"
_INDEXES = (INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def oci_images(data: bytes, read: Read) -> list[SourceImage]:
    """Return the images that an index.json names; several if they are for several platforms. Raises SourceCorrupt."""
    return _Layout(read).images(data)


@dataclass(frozen=True)
class _Descriptor:
    """A checked descriptor of a blob."""

    media_type: str
    file: SourceFile
    platform: str
    annotations: dict[str, Any]

    @classmethod
    def parse(cls, where: str, document: Any) -> _Descriptor:
        fields = document if isinstance(document, dict) else {}
        media_type, digest, size = fields.get("mediaType"), fields.get("digest"), fields.get("size")
        if not (isinstance(media_type, str) and isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise malformed(where)
        platform, annotations = fields.get("platform") or {}, fields.get("annotations") or {}
        if type(size) is not int or not isinstance(platform, dict) or not isinstance(annotations, dict):
            raise malformed(where)
        parts = [platform.get(key) or "" for key in ("os", "architecture", "variant")]
        return cls(
            media_type,
            SourceFile(blob_path(digest), digest, size),
            "/".join(filter(None, map(str, parts))),
            annotations,
        )

    @property
    def is_attestation(self) -> bool:
        return self.platform == UNKNOWN_PLATFORM or ATTESTATION_ANNOTATION in self.annotations

    @property
    def names(self) -> frozenset[str]:
        """The full names that it tells; a bare tag is none, and neither is a name by digest."""
        told = (str(self.annotations.get(key) or "") for key in (NAME_ANNOTATION, TAG_ANNOTATION))
        return frozenset(full_name(name) for name in told if name and "@" not in name and not is_version(name))


class _Layout:
    """One reading of a layout, which counts descriptors, because indexes may name each other many times."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = MAX_DESCRIPTORS

    def images(self, data: bytes) -> list[SourceImage]:
        return [
            image for top in self._descriptors(INDEX, data) for image in self._below(top, top.names, frozenset(), 0)
        ]

    def _below(
        self, descriptor: _Descriptor, names: frozenset[str], ids: frozenset[str], depth: int
    ) -> Iterator[SourceImage]:
        """Yield the images that a descriptor leads to. An index may name platforms that the layout does not hold."""
        if descriptor.is_attestation:
            return
        data = self._described(descriptor.file)
        if data is None:
            if not depth:
                raise missing(descriptor.file.name)
            return
        ids |= {str(descriptor.file.digest)}
        if descriptor.media_type in _MANIFESTS:
            yield self._image(descriptor, data, names, ids)
        elif descriptor.media_type not in _INDEXES:
            raise SourceCorrupt(f"The source holds {descriptor.media_type!r}, which is not an image.")
        elif depth == MAX_DEPTH:
            raise SourceCorrupt(f"The source has indexes within more than {MAX_DEPTH} others.")
        else:
            for child in self._descriptors(descriptor.file.name, data):
                yield from self._below(child, names, ids, depth + 1)

    def _image(self, descriptor: _Descriptor, data: bytes, names: frozenset[str], ids: frozenset[str]) -> SourceImage:
        where = descriptor.file.name
        document = parse(where, data, dict)
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise malformed(where)
        config = _Descriptor.parse(where, document.get("config")).file
        settings = read_settings(config, self._read)
        files = tuple(_Descriptor.parse(where, layer).file for layer in layers)
        return SourceImage(
            names, ids | {settings.digest}, descriptor.platform or settings.platform, config, settings, files
        )

    def _descriptors(self, where: str, data: bytes) -> list[_Descriptor]:
        entries = parse(where, data, dict).get("manifests")
        if not isinstance(entries, list):
            raise malformed(where)
        self._left -= len(entries)
        if self._left < 0:
            raise SourceCorrupt(f"The source names more than {MAX_DESCRIPTORS} manifests.")
        return [_Descriptor.parse(where, entry) for entry in entries]

    def _described(self, file: SourceFile) -> bytes | None:
        """Return the content of a file that a descriptor names, None if there is none."""
        require_small(file.name, file.size or 0)
        data = self._read(file.name)
        if data is not None and (digest_of(data), len(data)) != (file.digest, file.size):
            raise SourceCorrupt(f"{file.name!r} of the source is not what its descriptor says.")
        return data
