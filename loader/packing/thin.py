"""`images thin` and `images join`: archives without the blobs that an earlier release has, and whole ones again.

Both need no key, because they only copy stored bytes.
"""

from __future__ import annotations

from pathlib import Path

from loader.binary_split import Archive, Stage, open_archive
from loader.errors import ValidationFailed
from loader.held_blobs import find_held, left_over, replace_archive


def thin(path: Path, base: Path, output: Path, stage: Stage) -> None:
    """Write the archive at `path` to `output` without the blobs that the head of `base` names.

    `base` need not have the blobs itself. The output appears whole or not at all. Raises ValidationFailed if the two
    have different roots, ArchiveIncomplete, ArchiveCorrupt, ArchiveNotFound, StorageError and DiskSpace.
    """
    with open_archive(path) as new, open_archive(base) as old:
        _require_one_root(new, old)
        held = find_held(left_over(new.head, old.head), [new], f"The archive {path}")
        replace_archive(output, new.index.seals, new, held, "thinning", stage)


def join(path: Path, base: Path, output: Path, stage: Stage) -> None:
    """Write the thin archive at `path` with all of its blobs to `output`; those that it lacks come from `base`.

    The output appears whole or not at all. Raises ArchiveIncomplete if `base` lacks one, ValidationFailed if the two
    have different roots, ArchiveCorrupt, ArchiveNotFound, StorageError and DiskSpace.
    """
    with open_archive(path) as new, open_archive(base) as old:
        _require_one_root(new, old)
        held = find_held(new.head.blobs, [new, old], f"{base} is not the base of {path}: it")
        replace_archive(output, new.index.seals, new, held, "joining", stage)


def _require_one_root(new: Archive, old: Archive) -> None:
    if new.head.root_id != old.head.root_id:
        raise ValidationFailed(f"{new.path} and {old.path} have different roots, so they share no blob.")
