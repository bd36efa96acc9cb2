"""`images sign`: one more signature of a release, by a person who need not be the packer and needs no key fragment."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from loader.binary_split import Stage, open_archive
from loader.crypto.archive_head import Head
from loader.crypto.json_header import MAX_SIGNATURES
from loader.crypto.signatures import SigningKey
from loader.errors import ValidationFailed
from loader.held_blobs import replace_archive


def sign(path: Path, key: SigningKey, stage: Stage) -> Head:
    """Add the signature by `key` to the archive at `path`, and return its head. Nothing changes if it is there already.

    Head and blobs stay as they are; an invalid signature by the same key is replaced. The new archive replaces the old
    one, or the target of a link, by a rename. Raises ValidationFailed if there are 16 other signatures, ArchiveCorrupt,
    ArchiveNotFound, StorageError and DiskSpace.
    """
    with open_archive(path) as archive:
        stored, seals = archive.index.stored, archive.index.seals
        signature = key.sign(stored)
        if signature not in seals.signatures:
            others = tuple(other for other in seals.signatures if other.key != key.public)
            if len(others) == MAX_SIGNATURES:
                raise ValidationFailed(f"{path} has {MAX_SIGNATURES} signatures already, and more are not possible.")
            signed = replace(seals, signatures=(*others, signature))
            kept = [(archive, blob) for blob in stored.head.blobs if blob.digest in archive.index.offsets]
            replace_archive(Path(os.path.realpath(path)), signed, archive, kept, "signing", stage)
        return stored.head
