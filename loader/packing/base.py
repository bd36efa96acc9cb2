"""The base of `images pack --base`: an earlier release, whose root and sealed layers the new release takes over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loader.binary_split import Archive, archive_faults, open_archive
from loader.crypto.archive_head import Blob


@dataclass(frozen=True)
class Base:
    """An open archive that was authenticated. `layers` are its blobs of layers, by the digests of their content."""

    archive: Archive
    root: bytes = field(repr=False)
    layers: dict[str, Blob]

    def may_have(self, size: int | None) -> bool:
        """Return whether a layer of `size` bytes may be one of the base; None means that its size is unknown."""
        return size is None or any(blob.size == size for blob in self.layers.values())


@contextmanager
def open_base(path: Path, fragment: bytes) -> Iterator[Base]:
    """Open the archive at `path`, which must hold all of its blobs and be sealed with `fragment`.

    Raises KeyMismatch, ArchiveIncomplete, ArchiveCorrupt, ArchiveNotFound and StorageError.
    """
    with open_archive(path) as archive:
        archive.require_fragment(fragment)
        archive.require_complete()
        with archive_faults(path):
            root = archive.index.seals.open(archive.index.stored, fragment)
        head = archive.head
        yield Base(archive, root, {digest: head.blob[digest] for image in head.images for digest in image.layers})
