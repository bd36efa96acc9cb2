"""The archive of images on this device: opened, checked, decrypted with the key fragment that only the API has."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.archive import ArchiveHeader, Manifest, read_archive_header
from loader.crypto.streaming_aead import DecryptingReader
from loader.errors import ArchiveCorrupt, ArchiveNotFound, Checkpoint, CorruptCiphertext, KeyMismatch, VersionMismatch
from loader.files import storage
from loader.unlock_state import ArchiveIdentity


def identify(path: Path) -> ArchiveIdentity | None:
    """Which file lies at `path`, None if there is none; raises StorageError."""
    with storage(path, 0):
        try:
            return _identity(path.stat())
        except FileNotFoundError:
            return None


def _identity(status: os.stat_result) -> ArchiveIdentity:
    return ArchiveIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Archive:
    """An opened archive. Its manifest is not proven before a segment has verified."""

    path: Path
    identity: ArchiveIdentity
    header: ArchiveHeader
    file: io.FileIO

    @property
    def manifest(self) -> Manifest:
        """What the archive says of itself."""
        return self.header.manifest

    def require_version(self, tag: str) -> None:
        """Raises VersionMismatch unless an image carries `tag`."""
        if not any(image.tag == tag for image in self.manifest.images):
            held = ", ".join(image.reference for image in self.manifest.images)
            raise VersionMismatch(f"The archive holds no image of version {tag}, only {held}.")

    def require_fragment(self, fragment: bytes) -> None:
        """Raises KeyMismatch unless the archive was made with `fragment`."""
        if not self.header.matches(fragment):
            raise KeyMismatch("The archive was made for another key fragment.")

    def plaintext(self, fragment: bytes, checkpoint: Checkpoint) -> Iterator[memoryview]:
        """The verified segments of the tar, each valid until the next; `checkpoint` is called before each.

        Raises ArchiveCorrupt at the first segment that does not verify, and StorageError.
        """
        return self._segments(self.header.decrypt, fragment, checkpoint)

    def verified_sizes(self, fragment: bytes, checkpoint: Checkpoint) -> Iterator[int]:
        """The sizes in bytes of those segments, verified but not decrypted; raises what `plaintext` raises."""
        return map(len, self._segments(self.header.verify, fragment, checkpoint))

    def _segments(
        self, read: Callable[[io.FileIO, bytes], DecryptingReader], fragment: bytes, checkpoint: Checkpoint
    ) -> Iterator[memoryview]:
        with _archive_faults(self.path):
            self.file.seek(len(self.header.raw))
            for segment in read(self.file, fragment):
                checkpoint()
                yield segment


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The archive at `path`; raises ArchiveNotFound, ArchiveCorrupt or StorageError."""
    with _opened(path) as file:
        with _archive_faults(path):
            header = read_archive_header(file)
        yield Archive(path, _identity(os.fstat(file.fileno())), header, file)


def _opened(path: Path) -> io.FileIO:
    with storage(path, 0):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as exc:
            raise ArchiveNotFound(f"There is no archive at {path}.") from exc


@contextmanager
def _archive_faults(path: Path) -> Iterator[None]:
    try:
        with storage(path, 0):
            yield
    except CorruptCiphertext as exc:
        raise ArchiveCorrupt(f"The archive {path} is damaged: {exc}.") from exc
