"""Images of any size, made without an engine, in the form of `docker save`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from loader.crypto.archive import ManifestImage

CREATED = "2026-01-02T03:04:05.678Z"
ROOM = 10 * tarfile.BLOCKSIZE  # what Python writes at the end of a tar


@dataclass(frozen=True)
class HandmadeImage:
    """An image of one layer with one file, which consists of `blocks` times `block`."""

    reference: str
    block: bytes
    blocks: int

    def described(self) -> ManifestImage:
        """Return the image as a manifest describes it."""
        config = self._config()
        return ManifestImage(self.reference, _digest(config), (self._diff_id(),), CREATED)

    def tar(self) -> Iterator[bytes]:
        """Yield the tar in pieces."""
        return handmade_tar(self)

    def tar_size(self) -> int:
        """Return the size of `tar` in bytes."""
        return sum(map(len, self.tar()))

    def entries(self, layer_name: str) -> tuple[dict[str, object], Iterator[bytes]]:
        """Return the entry of the image in the manifest of a tar, and the members that belong to it."""
        config = self._config()
        config_name = f"{_digest(config).removeprefix('sha256:')}.json"
        listing: dict[str, object] = {"Config": config_name, "RepoTags": [self.reference], "Layers": [layer_name]}
        return listing, self._members(config_name, config, layer_name)

    def _members(self, config_name: str, config: bytes, layer_name: str) -> Iterator[bytes]:
        yield from _entry(config_name, config)
        yield _head(layer_name, self._layer_size)
        yield from self._layer()
        yield bytes(-self._layer_size % tarfile.BLOCKSIZE)

    @property
    def _layer_size(self) -> int:
        return tarfile.BLOCKSIZE + self.blocks * len(self.block) + ROOM

    def _layer(self) -> Iterator[bytes]:
        yield _head("data.bin", self.blocks * len(self.block))
        for _ in range(self.blocks):
            yield self.block
        yield bytes(ROOM)

    def _diff_id(self) -> str:
        digest = hashlib.sha256()
        for piece in self._layer():
            digest.update(piece)
        return f"sha256:{digest.hexdigest()}"

    def _config(self) -> bytes:
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [self._diff_id()]},
        }
        return json.dumps(document).encode()


def handmade_tar(*images: HandmadeImage) -> Iterator[bytes]:
    """Yield one tar of several images in pieces."""
    parts = [image.entries(f"layer{number}/layer.tar") for number, image in enumerate(images)]
    yield from _entry("manifest.json", json.dumps([listing for listing, _ in parts]).encode())
    for _, members in parts:
        yield from members
    yield bytes(ROOM)


def _head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def _entry(name: str, data: bytes) -> Iterator[bytes]:
    yield _head(name, len(data))
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
