"""Puts a full or thin archive in the place of the installed one, with all of its blobs, or changes nothing.

Nothing that runs is touched: an unlock that has opened the former archive reads it to the end.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from loader.binary_split import Archive, Stage, archive_faults, open_archive
from loader.blob_directory import blob_directory, open_blobs, remove_other_blobs
from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import Blob, Release
from loader.crypto.blobs import require_stored
from loader.crypto.pieces import PieceDigests
from loader.errors import ArchiveCorrupt, ArchiveNotFound, CorruptCiphertext, DeviceFault, ValidationFailed
from loader.files import OnBytes, replacement, require_room, storage, sync_directory, synced_along
from loader.held_blobs import Held, find_held, write_archive
from loader.publisher_keys import PublisherKeys
from loader.stored_blobs import StoredBlob

# <linux/fs.h>
FICLONE = 0x40049409


def install(
    path: Path,
    place: Path,
    version: str,
    stage: Stage,
    trusted: PublisherKeys | None = None,
    kept: Sequence[Blob] = (),
) -> Release:
    """Install the archive at `path`, which must be the release of `version`, at `place`, and return its release.

    If there are `trusted` keys, one of them must have signed it. The blobs `kept` stay, though nothing here needs them.

    Blobs that it lacks come from the installed archive and wait in the directory of `place`, before one rename replaces
    that archive. A kill or a power cut at any moment leaves the former archive or the new one, and all of its blobs.
    Raises ValidationFailed, UntrustedPublisher, VersionMismatch, ArchiveIncomplete, ArchiveCorrupt, ArchiveNotFound,
    StorageError and DiskSpace.
    """
    place = Path(os.path.realpath(place))
    with open_archive(path) as new, ExitStack() as opened:
        new.require_publisher(trusted)
        new.require_version(version)
        opened.enter_context(alone(blob_directory(place)))
        try:
            _Installation(new, open_installed(place, opened), place, kept).run(stage)
        except BaseException:
            with suppress(DeviceFault):
                tidy(place, kept)
            raise
        tidy(place, kept)
        return new.head.release


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make the directory of blobs, and wait until no other installation works there. Raises StorageError.

    A file system without locks has no such protection.
    """
    with storage(directory, 0):
        descriptor = _locked(directory)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(directory: Path) -> int:
    while True:
        with suppress(FileExistsError):
            directory.mkdir()
            # Everybody may read blobs, because they are ciphertext, and the loader may run as another user.
            directory.chmod(0o755)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if directory.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        # The installation before removed the directory, because nothing was left in it.
        os.close(descriptor)


def open_installed(place: Path, opened: ExitStack) -> Archive | None:
    """Open the installed archive; return None if there is none, or none that could be unlocked."""
    with suppress(ArchiveNotFound, ArchiveCorrupt):
        return opened.enter_context(open_archive(place))
    return None


def tidy(place: Path, kept: Sequence[Blob]) -> None:
    """Remove the blobs that neither the installed archive nor a fetch needs, but for `kept`; call it `alone`.

    Raises StorageError.
    """
    directory = blob_directory(place)
    needed: Sequence[Blob] = ()
    with suppress(ArchiveNotFound, ArchiveCorrupt), open_archive(place) as archive:
        needed = archive.index.absent
    with storage(directory, 0):
        # The rename must be on the disk first, because a power cut could bring back an archive without its blobs.
        sync_directory(place.parent)
        remove_other_blobs(directory, [*needed, *kept])
        with suppress(OSError):
            directory.rmdir()


class _Installation:
    """One installation of the archive `new` in the place of `old`."""

    def __init__(self, new: Archive, old: Archive | None, place: Path, kept: Sequence[Blob]) -> None:
        self._new = new
        self._old = old
        self._place = place
        self._kept = kept
        self._directory = blob_directory(place)

    def run(self, stage: Stage) -> None:
        if self._old is not None and self._old.identity == self._new.identity:
            raise ValidationFailed(f"{self._new.path} is the installed archive itself.")
        self._make_room()
        new, lacking = self._new, self._new.index.absent
        with stage("installing", new.index.size + sum(blob.stored_size for blob in lacking)) as advance:
            missing = self._missing(lacking, advance)
            held = find_held(missing, self._archives, f"{new.path} is thin, and the archive installed here")
            size = sum(blob.stored_size for blob in missing)
            with storage(self._place, size), replacement(self._place) as file:
                is_clone = clone(new.file, file)
                require_room(self._place, size if is_clone else size + new.index.size)
                self._put_blobs(held, advance)
                if is_clone:
                    self._check_clone(file, advance)
                else:
                    present = [(new, new.head.blob[digest]) for digest in new.index.offsets]
                    write_archive(file, self._place, new.index.seals, new, present, advance)
                # Everybody may read it, because it is ciphertext, and the loader may run as another user.
                os.fchmod(file.fileno(), 0o644)

    @property
    def _archives(self) -> list[Archive]:
        return [self._new] if self._old is None else [self._new, self._old]

    def _make_room(self) -> None:
        """Remove blobs that no archive needs. Those of the new one were left by an installation that was killed."""
        absent = [blob for one in self._archives for blob in one.index.absent]
        with storage(self._directory, 0):
            remove_other_blobs(self._directory, [*absent, *self._kept])

    def _missing(self, blobs: Sequence[Blob], on_read: OnBytes) -> list[Blob]:
        """Return which of the blobs are not yet in the directory, or damaged there."""
        missing = list(blobs)
        with ExitStack() as opened, storage(self._directory, 0):
            files = open_blobs(self._directory, blobs, opened)
            for blob in blobs:
                if blob.digest in files:
                    with suppress(CorruptCiphertext):
                        require_sound(blob, files[blob.digest], 0, on_read)
                        missing.remove(blob)
        return missing

    def _put_blobs(self, held: Sequence[Held], on_written: OnBytes) -> None:
        for archive, blob in held:
            path = self._directory / blob.stored
            with storage(path, blob.stored_size), replacement(path) as file:
                with synced_along(file, on_written) as written:
                    archive.copy(blob, file, path, 0, written)
                os.fchmod(file.fileno(), 0o644)
        sync_directory(self._directory)
        sync_directory(self._directory.parent)

    def _check_clone(self, file: BinaryIO, on_read: OnBytes) -> None:
        """Compare the clone with what was read of the file before. Raises ArchiveCorrupt."""
        index = self._new.index
        with archive_faults(self._new.path):
            if ArchiveIndex.read(file, os.fstat(file.fileno()).st_size) != index:
                raise CorruptCiphertext("it changed while it was read")
            for digest, offset in index.offsets.items():
                require_sound(index.head.blob[digest], file, offset, on_read)


def clone(source: BinaryIO | io.FileIO, target: BinaryIO) -> bool:
    """Make the empty file `target` a copy of `source` that shares its disk space, and return whether that was done.

    Only some file systems do it, Btrfs and XFS among them, and only for two files of their own: see FICLONE in
    ioctl_ficlone(2).
    """
    with suppress(OSError):
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        return True
    return False


def require_sound(blob: Blob, file: BinaryIO | io.FileIO, offset: int, on_read: OnBytes) -> None:
    """Compare stored bytes with their piece digest. Raises CorruptCiphertext and OSError."""
    digests = PieceDigests()
    for size in StoredBlob(file, offset, blob.stored_size).add_to(digests):
        on_read(size)
    require_stored(blob, digests)
