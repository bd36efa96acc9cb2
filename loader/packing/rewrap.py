"""`images rewrap`: the same head and the same blobs under another key fragment."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from loader.binary_split import Stage, archive_faults, open_archive
from loader.blob_directory import ARCHIVE_SUFFIX
from loader.crypto.archive_seals import Seals
from loader.errors import ArchiveNotFound, ValidationFailed
from loader.held_blobs import replace_archive

HEAD_SUFFIX = ".head"


def head_path(archive: Path) -> Path:
    """Return where the head of an archive lies without its blobs."""
    return Path(str(archive).removesuffix(HEAD_SUFFIX).removesuffix(ARCHIVE_SUFFIX) + HEAD_SUFFIX)


def rewrap(path: Path, fragment: bytes, new_fragment: bytes, output: Path | None, stage: Stage) -> Path:
    """Write the archive at `path` to `output`, sealed with `new_fragment` instead of `fragment`, and return `output`.

    Without `output`, only what changes is written to `head_path`: an archive of some KB without any blob. The output
    may be the archive itself, appears whole or not at all, and everybody may read it. Raises KeyMismatch,
    ArchiveCorrupt, ArchiveNotFound, StorageError, DiskSpace, and ValidationFailed instead of removing blobs.
    """
    with open_archive(path) as archive:
        archive.require_fragment(fragment)
        stored, seals = archive.index.stored, archive.index.seals
        with archive_faults(path):
            root = seals.open(stored, fragment)
        # Signatures stay valid, because they sign the head, which stays as it is.
        seals = replace(Seals.make(stored, root, new_fragment), signatures=seals.signatures)
        kept = [] if output is None else [blob for blob in stored.head.blobs if blob.digest in archive.index.offsets]
        output = output or _head_to_write(path)
        replace_archive(output, seals, archive, [(archive, blob) for blob in kept], "rewrapping", stage)
    return output


def _head_to_write(archive: Path) -> Path:
    """Return `head_path`, or the target of a link that is there.

    Raises ValidationFailed if blobs lie there, and ArchiveCorrupt if something else does.
    """
    path = Path(os.path.realpath(head_path(archive)))
    with suppress(ArchiveNotFound), open_archive(path) as present:
        if present.index.offsets:
            raise ValidationFailed(f"{path} holds blobs, which its new head would replace: say with -o what to write.")
    return path
