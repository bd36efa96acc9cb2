"""Large sealed resources as an API stores them. They stay in files and are never held in memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.model_parts import BigPart, ResourceName, SmallPart
from tests.support.range_upstream import Held, RangeUpstream
from tests.support.sealed_objects import seal_resource

MIB = 1 << 20
FOLDER = "models/day"


@dataclass(frozen=True)
class StoredResource:
    """A resource in `FOLDER`: its two objects, and the size in bytes and the SHA-256 of its plaintext."""

    filename: str
    size: int
    sha256: str
    small: SmallPart
    small_file: Path
    big_file: Path

    @property
    def name(self) -> ResourceName:
        """Return the name of the resource at the API."""
        return ResourceName(FOLDER, self.filename)

    @property
    def big(self) -> BigPart:
        """Return the description of the big object in the small object."""
        assert self.small.big is not None
        return self.small.big

    @property
    def big_path(self) -> str:
        """Return the path of the big object at the API, without `/resources/`."""
        return self.name.big(self.big)

    def publish(self, api: RangeUpstream) -> Held:
        """Let `api` serve both objects, and return the big one, whose attributes set its faults."""
        api.hold(self.name.small, self.small_file)
        return api.hold(self.big_path, self.big_file)

    def copy_to(self, resources: Path) -> None:
        """Put both objects below the data directory of a reference API."""
        for path, file in ((self.name.small, self.small_file), (self.big_path, self.big_file)):
            target = resources / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)


def content(seed: str, size: int) -> Iterator[bytes]:
    """Yield a file of `size` bytes in pieces of 1 MiB, no two of which are equal."""
    piece = bytearray(random.Random(seed).randbytes(min(MIB, size)))  # noqa: S311  # a file's content, no secret
    for begin in range(0, size, MIB):
        piece[:8] = begin.to_bytes(8, "big")
        yield bytes(piece[: size - begin])


def store_resource(directory: Path, filename: str, size: int) -> StoredResource:
    """Seal a file of `size` bytes into `directory`."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in content(filename, size):
            digest.update(piece)
            yield piece

    big_file, small_file = directory / f"{filename}.big", directory / f"{filename}.small"
    with big_file.open("wb") as file:
        small = seal_resource(hashed(), ResourceName(FOLDER, filename), file)
    small_file.write_bytes(small.to_bytes())
    return StoredResource(filename, size, digest.hexdigest(), small, small_file, big_file)
