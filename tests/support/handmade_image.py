"""Images of any size, made without an engine, in the form of `docker save`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

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
        return ManifestImage(self.reference, _digest([self.config()]), (_digest(self.layer()),), CREATED)

    def tar(self) -> Iterator[bytes]:
        """Yield the tar in pieces."""
        return handmade_tar(self)

    def tar_size(self) -> int:
        """Return the size of `tar` in bytes."""
        return sum(map(len, self.tar()))

    def config(self) -> bytes:
        """Return the configuration of the image."""
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(self.layer())]},
        }
        return json.dumps(document).encode()

    def layer(self) -> Iterator[bytes]:
        """Yield the tar of the layer in pieces."""
        yield from _member("data.bin", self.blocks * len(self.block), repeat(self.block, self.blocks))
        yield bytes(ROOM)


def handmade_tar(*images: HandmadeImage) -> Iterator[bytes]:
    """Yield one tar of several images in pieces."""
    listing: list[dict[str, object]] = []
    members: list[Iterator[bytes]] = []
    for number, image in enumerate(images):
        config, layer_name = image.config(), f"layer{number}/layer.tar"
        config_name = f"{_digest([config]).removeprefix('sha256:')}.json"
        listing.append({"Config": config_name, "RepoTags": [image.reference], "Layers": [layer_name]})
        members.append(_member(config_name, len(config), [config]))
        members.append(_member(layer_name, sum(map(len, image.layer())), image.layer()))
    manifest = json.dumps(listing).encode()
    yield from _member("manifest.json", len(manifest), [manifest])
    yield from chain(*members)
    yield bytes(ROOM)


def _member(name: str, size: int, content: Iterable[bytes]) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = size
    yield entry.tobuf(tarfile.GNU_FORMAT)
    yield from content
    yield bytes(-size % tarfile.BLOCKSIZE)


def _digest(content: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
