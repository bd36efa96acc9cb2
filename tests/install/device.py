"""A device with an installed archive, without a loader and an engine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from loader.binary_split import open_archive
from loader.install import install
from loader.publisher_keys import PublisherKeys
from tests.packing.packs import contents, unwatched
from tests.support.thin_archives import release, thin_of


class Device:
    """The directory of a device, and beside it the releases that are carried to it."""

    def __init__(self, directory: Path, like: Device | None = None) -> None:
        """Make the directory of a device, with nothing installed or with what is installed on the device `like`."""
        self.place = directory / "device" / "images.enc"
        self.carried = directory / "carried"
        self.carried.mkdir(parents=True)
        if like is None:
            self.place.parent.mkdir()
        else:
            shutil.copytree(like.place.parent, self.place.parent)

    @property
    def blobs(self) -> Path:
        return self.place.with_suffix(".blobs")

    def full(self, number: int) -> Path:
        """Return release `number` as a full archive."""
        path = self.carried / f"{number}.enc"
        return path if path.exists() else release(path, number)

    def thin(self, number: int, base: int) -> Path:
        """Return release `number` without the blobs of release `base`."""
        path = self.carried / f"{base}-{number}.enc"
        path.write_bytes(thin_of(self.full(number), self.full(base)))
        return path

    def install(self, path: Path, trusted: PublisherKeys | None = None) -> None:
        with open_archive(path) as archive:
            version = archive.head.release.version
        install(path, self.place, version, unwatched, trusted)

    def require_release(self, number: int) -> None:
        """Fail unless release `number` is installed with all of its blobs, and nothing else is there."""
        self.require(self.full(number))

    def require(self, full: Path) -> None:
        """Fail unless the archive `full` is installed, full or thin, with all of its blobs and nothing else."""
        assert contents(self.place) == contents(full)
        with open_archive(self.place) as archive:
            assert self.listing() == sorted(blob.stored for blob in archive.index.absent)
        names = {self.place.name, *({self.blobs.name} if self.listing() else ())}
        assert set(os.listdir(self.place.parent)) == names  # noqa: PTH208  # hidden files count

    def listing(self) -> list[str]:
        """Return the names in the directory of blobs."""
        return sorted(os.listdir(self.blobs)) if self.blobs.exists() else []  # noqa: PTH208  # hidden files count

    def snapshot(self) -> dict[str, bytes]:
        """Return the content of every file of the device by its name."""
        return {str(path): path.read_bytes() for path in self.place.parent.rglob("*") if path.is_file()}
