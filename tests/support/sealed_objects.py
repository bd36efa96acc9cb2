"""Small sealed resources as an API stores them, made without a loader, and a check of a cache directory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loader.crypto.model_parts import Edition, ResourceName, SmallPart, seal_model
from loader.crypto.segments import FIRST_PLAINTEXT_SIZE, PLAINTEXT_SIZE
from loader.crypto.streaming_aead import Buffer
from tests.crypto.reference_archive import piece_digest
from tests.support.left_files import left

EDITION = Edition(1, "2026-03-01T12:00:00Z")
HEAD_PLAINTEXT = 65_536 - 40 - 16  # The longest file that needs no big object has this size.

# File sizes around every length at which a big object becomes necessary or the number of segments changes.
BOUNDARIES = (HEAD_PLAINTEXT, FIRST_PLAINTEXT_SIZE, FIRST_PLAINTEXT_SIZE + PLAINTEXT_SIZE)
BOUNDARY_SIZES = (0, 1, *(size + more for size in BOUNDARIES for more in (-1, 0, 1)), 5 * PLAINTEXT_SIZE + 7)


@dataclass(frozen=True)
class SealedObjects:
    """Both objects of one resource and the paths that the API serves them at; `big` is empty if there is none."""

    small_path: str
    small: bytes
    big_path: str
    big: bytes

    def as_objects(self) -> dict[str, bytes]:
        """Return both objects in the form of `FaultyApi.objects`: path to content."""
        return {self.small_path: self.small, self.big_path: self.big}


def seal_resource(
    plaintext: Iterable[Buffer], name: ResourceName, big_file: BinaryIO, edition: Edition = EDITION
) -> SmallPart:
    """Seal `plaintext`, write the big object to `big_file`, and return the small one without a signature."""
    return seal_model(plaintext, name, big_file).described(edition)


def seal(folder: str, filename: str, content: bytes) -> SealedObjects:
    """Seal `content`, and return the objects of the resource."""
    name = ResourceName(folder, filename)
    big_file = io.BytesIO()
    small = seal_resource([content], name, big_file)
    big_path = name.big(small.big) if small.big is not None else ""
    return SealedObjects(f"/resources/{name.small}", small.to_bytes(), f"/resources/{big_path}", big_file.getvalue())


def debris(models: Path) -> list[str]:
    """Return the names of all files in a cache directory, except big parts with the piece digest in their name."""
    return [
        path.name
        for path in left(models.iterdir())
        if path.suffix != ".big" or piece_digest(path.read_bytes()) != path.stem
    ]
