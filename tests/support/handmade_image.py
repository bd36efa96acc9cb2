"""Images of any size and archives of them, made without an engine and without the packer."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

from loader.crypto.archive import archive_start
from loader.crypto.archive_head import GZIP, PLAIN, Blob, Head, Image, Packed, Release, StoredHead
from loader.crypto.archive_seals import Seals, root_id
from loader.crypto.blobs import seal_blob
from loader.crypto.gzip_members import compress
from loader.crypto.pieces import PieceDigests
from loader.oci import write_manifest
from loader.references import full_reference, split_tag

CREATED = "2026-01-02T03:04:05.678Z"
ROOM = 10 * tarfile.BLOCKSIZE  # what Python writes at the end of a tar
ROOT = bytes(range(32))
# The fragment is text, so that a test would find it in a log.
FRAGMENT = b"the key fragment that only the tests know"
# Greater than the small serials that tests choose themselves.
_SERIALS = count(1000)


@dataclass(frozen=True)
class HandmadeLayer:
    """A layer with one file `name`, which consists of `blocks` times `block` and has the rights `mode`."""

    block: bytes = b""
    blocks: int = 1
    name: str = "data.bin"
    mode: int = 0o644

    def content(self) -> Iterator[bytes]:
        """Yield the tar of the layer in pieces."""
        yield from _member(self.name, self.blocks * len(self.block), repeat(self.block, self.blocks), self.mode)
        yield bytes(ROOM)

    @cached_property
    def described(self) -> tuple[str, int]:
        """The digest and the size of the tar."""
        return _described(self.content())


@dataclass(frozen=True)
class HandmadeImage:
    """An image under the name `reference` of any layers. `settings` is its part `config`: Env, Cmd and others."""

    reference: str
    layers: tuple[HandmadeLayer, ...] = (HandmadeLayer(),)
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    architecture: str = "amd64"
    created: str = CREATED

    @cached_property
    def config(self) -> bytes:
        """The configuration of the image."""
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "created": self.created,
            "config": self.settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.described[0] for layer in self.layers]},
        }
        return json.dumps(document).encode()

    @cached_property
    def manifest(self) -> bytes:
        """The manifest of the image, with its layers as they are."""
        return write_manifest(_described([self.config]), [layer.described for layer in self.layers])

    @property
    def image(self) -> Image:
        """The image as a head describes it."""
        manifest, config = _described([self.manifest])[0], _described([self.config])[0]
        layers = tuple(layer.described[0] for layer in self.layers)
        platform = f"linux/{self.architecture}"
        return Image(full_reference(self.reference), platform, self.created, manifest, config, layers)

    def contents(self) -> dict[str, Iterable[bytes]]:
        """Return the content of each blob by its digest."""
        layers = {layer.described[0]: layer.content() for layer in self.layers}
        return {self.image.manifest: [self.manifest], self.image.config: [self.config], **layers}


def seal(
    path: Path,
    images: Sequence[HandmadeImage],
    *,
    fragment: bytes = FRAGMENT,
    root: bytes = ROOT,
    version: str | None = None,
    serial: int | None = None,
    codec: str = PLAIN,
    lies: dict[str, bytes] | None = None,
) -> Path:
    """Write an archive of `images` to `path`, and return `path`. The default version is the tag of the first image.

    The default serial is greater than that of each archive before.

    `lies` is content that is sealed instead of that of a digest; the head still tells the size of the true content.
    With the codec gzip and a lie of that size, only the engine can notice it.
    """
    contents: dict[str, Iterable[bytes]] = {}
    for image in images:
        contents |= image.contents()
    blobs, stored = [], []
    for digest, content in contents.items():
        true = b"".join(content)
        blob, data = sealed_blob(digest, (lies or {}).get(digest, true), root, codec)
        blobs.append(replace(blob, size=len(true)))
        stored.append(data)
    version = version or str(split_tag(images[0].image.reference)[1])
    release = Release(version, next(_SERIALS) if serial is None else serial, CREATED)
    head = StoredHead.of(Head(release, root_id(root), tuple(image.image for image in images), tuple(blobs)))
    with path.open("wb") as file:
        file.write(archive_start(head, Seals.make(head, root, fragment), blobs))
        file.writelines(stored)
    return path


def sealed_blob(digest: str, content: bytes, root: bytes, codec: str) -> tuple[Blob, bytes]:
    """Return a blob as a head describes it, and its stored bytes."""
    packed_bytes = b"".join(compress([content])) if codec == GZIP else content
    packed = Packed(hashlib.sha256(packed_bytes).hexdigest(), len(packed_bytes))
    stored = b"".join(map(bytes, seal_blob([packed_bytes], packed, root)))
    pieces = PieceDigests()
    for begin in range(0, len(stored), 1 << 20):
        pieces.add(stored[begin : begin + (1 << 20)])
    return Blob(digest, len(content), codec, packed, pieces.hex()), stored


def docker_archive(*images: HandmadeImage) -> Iterator[bytes]:
    """Yield one tar of several images in pieces, in the form of `docker save` before version 25."""
    listing: list[dict[str, object]] = []
    members: list[Iterator[bytes]] = []
    for number, image in enumerate(images):
        names = []
        for position, layer in enumerate(image.layers):
            names.append(f"layer{number}.{position}/layer.tar")
            members.append(_member(names[-1], layer.described[1], layer.content()))
        config_name = f"{_described([image.config])[0].removeprefix('sha256:')}.json"
        listing.append({"Config": config_name, "RepoTags": [image.reference], "Layers": names})
        members.append(_member(config_name, len(image.config), [image.config]))
    manifest = json.dumps(listing).encode()
    yield from _member("manifest.json", len(manifest), [manifest])
    yield from chain(*members)
    yield bytes(ROOM)


def _member(name: str, size: int, content: Iterable[bytes], mode: int = 0o644) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, mode
    yield entry.tobuf(tarfile.GNU_FORMAT)
    yield from content
    yield bytes(-size % tarfile.BLOCKSIZE)


def _described(content: Iterable[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for piece in content:
        digest.update(piece)
        size += len(piece)
    return f"sha256:{digest.hexdigest()}", size
