"""Packing: writes images of the Docker engine into an encrypted archive, and verifies an archive.

The machine that ships images to devices uses it, not the devices.
"""

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


def find_images(engine: DockerEngine, references: list[str]) -> list[tuple[str, EngineImage]]:
    """Return each image of `references` once, with its full reference: a reference without a tag means `:latest`.

    Raises ImageNotFound.
    """
    found = {}
    for name in references:
        reference = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        image = engine.find(reference)
        if image is None:
            raise ImageNotFound(f"The Docker engine has no image {reference}.")
        found[reference] = image
    return list(found.items())


def pack(
    engine: DockerEngine,
    images: list[tuple[str, EngineImage]],
    fragment: bytes,
    output: Path,
    on_packed: Callable[[int], None],
) -> Manifest:
    """Save `images` into an archive at `output`, which appears complete or not at all, and return its manifest.

    `on_packed` gets a number of bytes: each byte of the tar counts once when the engine sends it and once when it is
    encrypted into the archive. The manifest comes before the ciphertext and contains the size of the tar, which is
    known only at the end of the engine's stream. So the tar is first sealed with a temporary key into the new file,
    and then encrypted for the archive in the same place. No plaintext is written to the disk.
    """
    references = [reference for reference, _ in images]
    remove_unfinished(output)
    with storage(output, 0), replacement(output) as file:
        tar = SealedSpool(file, _counted(engine.save(references), on_packed))
        manifest = Manifest(
            images=tuple(ManifestImage(name, image.id, image.layers, image.created) for name, image in images),
            tar_size=tar.size,
            key_check=key_check(fragment),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        tar.overwrite(seal_archive(manifest, _counted(tar.read(), on_packed), fragment))
        # Everybody may read the archive, because it is ciphertext that is made to be copied.
        os.fchmod(file.fileno(), 0o644)
    return manifest


def verify(path: Path, fragment: bytes, on_verified: Callable[[int], None]) -> Manifest:
    """Authenticate every byte of an archive, and return its manifest.

    `on_verified` gets the number of bytes of each piece of the tar. Raises KeyMismatch, ArchiveCorrupt,
    ArchiveNotFound or StorageError.
    """
    with open_archive(path) as archive:
        archive.require_fragment(fragment)
        for size in archive.verified_sizes(fragment, lambda: None):
            on_verified(size)
        return archive.manifest


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of an archive. Nothing of it is verified, because that needs the key.

    Raises ArchiveCorrupt, ArchiveNotFound or StorageError.
    """
    with open_archive(path) as archive:
        return archive.manifest


def read_fragment(path: Path) -> bytes:
    """Read a key fragment from a file; raises KeyMismatch if its size is wrong, and StorageError."""
    with storage(path, 0):
        fragment = path.read_bytes()
    if not FRAGMENT_MIN_SIZE <= len(fragment) <= FRAGMENT_MAX_SIZE:
        raise KeyMismatch(
            f"{path} is not a key fragment: "
            f"it has {len(fragment)} bytes, not {FRAGMENT_MIN_SIZE} to {FRAGMENT_MAX_SIZE}."
        )
    return fragment


def new_fragment(path: Path) -> None:
    """Write a random key fragment to a new file of mode 0600; raises StorageError, also if the file exists."""
    with storage(path, FRAGMENT_MIN_SIZE):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(FRAGMENT_MIN_SIZE))


def _counted(pieces: Iterable[Buffer], on_piece: Callable[[int], None]) -> Iterator[Buffer]:
    for piece in pieces:
        on_piece(len(piece))
        yield piece
