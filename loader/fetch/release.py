"""The release that a fetch brings: its head from the resource API, and which of its blobs are here already."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from loader.binary_split import Archive, open_archive, require_publisher, require_version
from loader.blob_directory import FETCHED_NAME, blob_directory, open_blobs, remove_other_blobs
from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.archive_head import Blob
from loader.errors import ArchiveNotFound, CorruptCiphertext, LoaderError, VersionMismatch
from loader.fetch.blobs import BlobParts
from loader.files import OnBytes, remove_if_there, replacement, require_room, storage
from loader.install import require_sound
from loader.publisher_keys import PublisherKeys
from loader.unlock.release_mark import KnownRelease, ReleaseMark
from loader.unlock.remembered import Remembered

log = logging.getLogger(__name__)

VERSION_HINT = "Publish the release again under its own version, or fetch the version that it has."


@dataclass(frozen=True)
class FetchedHead:
    """The head that the API has for a version."""

    index: ArchiveIndex

    @property
    def raw(self) -> bytes:
        """The head as an archive without blobs."""
        return archive_start(self.index.stored, self.index.seals, ())

    def require_acceptable(self, version: str, trusted: PublisherKeys | None, mark: ReleaseMark) -> None:
        """Raise UntrustedPublisher, VersionMismatch or Rollback unless this release may be brought."""
        require_publisher(self.index, trusted)
        try:
            require_version(self.index, version)
        except VersionMismatch as exc:
            held = self.index.head.release.version
            detail = f"The resource API has release {held} where release {version} should be."
            raise VersionMismatch(detail, hint=VERSION_HINT) from exc
        mark.require_not_older(KnownRelease.of(self.index.stored), None)

    def is_whole_in(self, archive: Archive) -> bool:
        """Return whether `archive` has this head, these seals, and a file for each blob."""
        index = archive.index
        return (index.stored, index.seals) == (self.index.stored, self.index.seals) and not archive.absent


@dataclass(frozen=True)
class Stock:
    """The blobs of a release by where they are: `missing` nowhere on this device, `shared` in the installed archive."""

    missing: Sequence[Blob]
    shared: Sequence[Blob]

    def require_room(self, parts: BlobParts, place: Path, head: FetchedHead) -> None:
        """Raise DiskSpace unless the disk takes what is missing, and copies of what is shared. Raises StorageError.

        The installed archive is replaced only once all blobs are beside it, so that shared ones are there twice.
        """
        with storage(parts.path, 0):
            needed = sum(parts.missing(blob) for blob in self.missing)
        needed += sum(blob.stored_size for blob in self.shared) + len(head.raw)
        require_room(place, needed)


def keep_head(directory: Path, head: FetchedHead) -> None:
    """Write the head into the directory. From then on nobody removes its blobs. Raises StorageError and DiskSpace."""
    path = directory / FETCHED_NAME
    with storage(path, len(head.raw)), replacement(path) as file:
        file.write(head.raw)
        # Everybody may read it, because `images install` may run as another user.
        os.fchmod(file.fileno(), 0o644)


def remove_unneeded(directory: Path, installed: Archive | None, kept: Sequence[Blob]) -> None:
    """Remove all blobs but those of the fetch, those of the installed archive, and `kept`. Raises StorageError."""
    with storage(directory, 0):
        remove_other_blobs(directory, [*(installed.index.absent if installed is not None else ()), *kept])


def forget_installed_head(place: Path) -> None:
    """Remove the head of a fetch that was killed after it had put the release in its place. Never raises.

    Its blobs are those of the archive by then. Those of the former archive go with the next fetch or installation.
    """
    path = blob_directory(place) / FETCHED_NAME
    try:
        # Without an archive the fetch was killed earlier.
        with suppress(ArchiveNotFound), open_archive(path) as head, open_archive(place) as installed, storage(path, 0):
            if FetchedHead(head.index).is_whole_in(installed):
                remove_if_there(path)
    except LoaderError as exc:
        log.warning("the head of an earlier fetch stays until the next one: %s", exc)


def former_blobs(directory: Path) -> tuple[Blob, ...]:
    """Return the blobs of the present and the previous release that were unlocked, as the `directory` remembers."""
    remembered = Remembered.read_if_sound(directory)
    releases = (remembered.present, remembered.previous)
    return tuple(blob for each in releases if each is not None for blob in each.head.blobs)


def take_stock(head: FetchedHead, installed: Archive | None, directory: Path, on_read: OnBytes) -> Stock:
    """Return which blobs are here, and compare each with its digest. A damaged one is missing.

    `on_read` gets the bytes of each piece. Raises StorageError, and what `on_read` raises.
    """
    missing, shared = [], []
    held = _held_in_file(installed)
    with ExitStack() as opened, storage(directory, 0):
        files = open_blobs(directory, head.index.head.blobs, opened)
        for blob in head.index.head.blobs:
            if (file := files.get(blob.digest)) is not None:
                if _is_sound(blob, file, 0, on_read):
                    continue
                remove_if_there(directory / blob.stored)
            offset = held.get((blob.stored, blob.stored_size))
            if installed is not None and offset is not None and _is_sound(blob, installed.file, offset, on_read):
                shared.append(blob)
            else:
                missing.append(blob)
    return Stock(missing, shared)


def _held_in_file(archive: Archive | None) -> dict[tuple[str, int], int]:
    """Return the offsets of the blobs in the file of an archive by piece digest and size."""
    if archive is None:
        return {}
    blobs = ((archive.head.blob[digest], offset) for digest, offset in archive.index.offsets.items())
    return {(blob.stored, blob.stored_size): offset for blob, offset in blobs}


def _is_sound(blob: Blob, file: io.FileIO, offset: int, on_read: OnBytes) -> bool:
    try:
        require_sound(blob, file, offset, on_read)
    except (CorruptCiphertext, OSError):
        # What the disk has lost comes again, too.
        return False
    return True
