"""`images show`: what an archive tells without a key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from loader.binary_split import open_archive
from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import FORMAT


def read_index(path: Path) -> ArchiveIndex:
    """Return all of an archive but its blobs. Nothing of it is verified, because that needs the key.

    Raises ArchiveCorrupt, ArchiveNotFound or StorageError.
    """
    with open_archive(path) as archive:
        return archive.index


def document(index: ArchiveIndex) -> dict[str, Any]:
    """Return the JSON form: the head, with sizes and with what the file lacks. All sizes are in bytes."""
    head = index.head
    return {
        "format": FORMAT,
        "size": index.size,
        "key_check": index.seals.check,
        "root_id": head.root_id,
        "signatures": len(index.seals.signatures),
        "complete": not index.absent,
        "release": asdict(head.release),
        "images": [{**asdict(image), "size": head.unpacked_size(image)} for image in head.images],
        "blobs": [
            {**asdict(blob), "stored_size": blob.stored_size, "present": blob.digest in index.offsets}
            for blob in head.blobs
        ],
    }
