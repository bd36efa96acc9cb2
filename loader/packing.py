"""Packing: images of the local engine into an encrypted archive, and the check of one. For the machine that ships."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive import FRAGMENT_MAX_SIZE, FRAGMENT_MIN_SIZE, Manifest, ManifestImage, seal_archive
from loader.crypto.sealed_spool import SealedSpool
from loader.crypto.segments import key_check
from loader.crypto.streaming_aead import Buffer
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import ImageNotFound, KeyMismatch
from loader.files import remove_unfinished, replacement, storage

Progress = Callable[[int], None]


def find_images(engine: DockerEngine, references: list[str]) -> list[tuple[str, EngineImage]]:
    """The engine's images for `references` (without a tag, `:latest` is meant), each once; raises ImageNotFound."""
    found = {}
    for name in references:
        reference = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        image = engine.find(reference)
        if image is None:
            raise ImageNotFound(f"The Docker engine has no image {reference}.")
        found[reference] = image
    return list(found.items())


def pack(
    engine: DockerEngine, images: list[tuple[str, EngineImage]], fragment: bytes, output: Path, progress: Progress
) -> Manifest:
    """Save `images` into an archive at `output`, which appears whole or not at all. `progress` gets bytes as they pass.

    The manifest stands before the ciphertext and names the tar's size, which only the engine's stream tells: the tar
    waits in sealed form in the new file and is sealed anew in its own place. No plaintext touches the disk.
    """
    references = [reference for reference, _ in images]
    remove_unfinished(output)
    with storage(output, 0), replacement(output) as file:
        tar = SealedSpool(file, _counted(engine.save(references), progress))
        manifest = Manifest(
            images=tuple(ManifestImage(name, image.id, image.layers, image.created) for name, image in images),
            tar_size=tar.size,
            key_check=key_check(fragment),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        tar.overwrite(seal_archive(manifest, _counted(tar.read(), progress), fragment))
        # Ciphertext, made to be handed on.
        os.fchmod(file.fileno(), 0o644)
    return manifest


def verify(path: Path, fragment: bytes, progress: Progress) -> Manifest:
    """Authenticate every byte of an archive; raises KeyMismatch, ArchiveCorrupt, ArchiveNotFound or StorageError."""
    with open_archive(path) as archive:
        archive.require_fragment(fragment)
        for size in archive.verified_sizes(fragment, lambda: None):
            progress(size)
        return archive.manifest


def read_manifest(path: Path) -> Manifest:
    """What an archive says of itself, without the key and so without proof."""
    with open_archive(path) as archive:
        return archive.manifest


def read_fragment(path: Path) -> bytes:
    """The key fragment in a file; raises KeyMismatch if it cannot be one, and StorageError."""
    with storage(path, 0):
        fragment = path.read_bytes()
    if not FRAGMENT_MIN_SIZE <= len(fragment) <= FRAGMENT_MAX_SIZE:
        raise KeyMismatch(
            f"{path} is no key fragment: it has {len(fragment)} bytes, not {FRAGMENT_MIN_SIZE} to {FRAGMENT_MAX_SIZE}."
        )
    return fragment


def new_fragment(path: Path) -> None:
    """Write a random key fragment to a new file, 0600; raises StorageError, also if the file exists."""
    with storage(path, FRAGMENT_MIN_SIZE):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(FRAGMENT_MIN_SIZE))


def _counted(pieces: Iterable[Buffer], progress: Progress) -> Iterator[Buffer]:
    for piece in pieces:
        progress(len(piece))
        yield piece
