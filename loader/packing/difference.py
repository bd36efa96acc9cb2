"""`images diff`: what a release shares with an earlier one, and what a thin archive of it would weigh."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.archive_head import Blob, Head
from loader.held_blobs import left_over

SAME, CHANGED, ADDED, REMOVED = "same", "changed", "added", "removed"


@dataclass(frozen=True)
class Difference:
    """What distinguishes the release `new` from `old`. Nothing of it is authentic.

    `changes` says for each reference of both what happened to it; `shared`, `added` and `removed` are blobs.
    """

    old: Head
    new: Head
    changes: dict[str, str]
    shared: tuple[Blob, ...]
    added: tuple[Blob, ...]
    removed: tuple[Blob, ...]
    thin_size: int

    @classmethod
    def of(cls, old: ArchiveIndex, new: ArchiveIndex) -> Difference:
        """Compare two archives by their heads."""
        added = left_over(new.head, old.head)
        shared = tuple(blob for blob in new.head.blobs if blob not in set(added))
        thin_size = len(archive_start(new.stored, new.seals, added)) + _stored_size(added)
        removed = tuple(left_over(old.head, new.head))
        return cls(old.head, new.head, _changes(old.head, new.head), shared, tuple(added), removed, thin_size)

    def document(self) -> dict[str, Any]:
        """Return the JSON form. All sizes are stored sizes in bytes."""
        return {
            "old": asdict(self.old.release),
            "new": asdict(self.new.release),
            "same_root": self.old.root_id == self.new.root_id,
            "images": [{"reference": reference, "change": change} for reference, change in self.changes.items()],
            "shared": _summary(self.shared),
            "added": _summary(self.added),
            "removed": _summary(self.removed),
            "thin_size": self.thin_size,
        }


def _changes(old: Head, new: Head) -> dict[str, str]:
    before = {image.reference: image.manifest for image in old.images}
    after = {image.reference: image.manifest for image in new.images}
    changes = {}
    for reference in dict.fromkeys((*after, *before)):
        if reference not in after:
            changes[reference] = REMOVED
        elif reference not in before:
            changes[reference] = ADDED
        else:
            changes[reference] = SAME if before[reference] == after[reference] else CHANGED
    return changes


def _summary(blobs: Iterable[Blob]) -> dict[str, int]:
    found = tuple(blobs)
    return {"blobs": len(found), "size": _stored_size(found)}


def _stored_size(blobs: Iterable[Blob]) -> int:
    return sum(blob.stored_size for blob in blobs)
