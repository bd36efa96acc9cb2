"""The archive of images on this device: opened, checked, and decrypted with the key fragment that only the API has."""

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
from loader.files import FileIdentity, storage


def identify(path: Path) -> FileIdentity | None:
    """Return the identity of the file at `path`, None if there is none. Raises StorageError."""
    with storage(path, 0):
        try:
            return FileIdentity.of(path.stat())
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Archive:
    """An open archive. Its manifest is not authenticated before the first segment is."""

    path: Path
    identity: FileIdentity
    header: ArchiveHeader
    file: io.FileIO

    @property
    def manifest(self) -> Manifest:
        """The manifest in the header of the archive."""
        return self.header.manifest

    def require_version(self, tag: str) -> None:
        """Raise VersionMismatch unless an image of the archive has `tag`."""
        if not any(image.tag == tag for image in self.manifest.images):
            held = ", ".join(image.reference for image in self.manifest.images)
            raise VersionMismatch(f"The archive holds no image of version {tag}, only {held}.")

    def require_fragment(self, fragment: bytes) -> None:
        """Raise KeyMismatch unless the archive was made with `fragment`."""
        if not self.header.matches(fragment):
            raise KeyMismatch("The archive was made for another key fragment.")

    def plaintext(self, fragment: bytes, checkpoint: Checkpoint) -> Iterator[memoryview]:
        """Yield the authenticated segments of the tar; each is valid until the next is taken.

        Calls `checkpoint` before each segment. Raises StorageError, and ArchiveCorrupt at the first segment that cannot
        be authenticated.
        """
        return self._segments(self.header.decrypt, fragment, checkpoint)

    def verified_sizes(self, fragment: bytes, checkpoint: Checkpoint) -> Iterator[int]:
        """Authenticate the segments without decrypting them, and yield their sizes in bytes.

        Calls and raises what `plaintext` does.
        """
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
    """Open the archive at `path` and read its header. Raises ArchiveNotFound, ArchiveCorrupt or StorageError."""
    with _opened(path) as file:
        with _archive_faults(path):
            header = read_archive_header(file)
        yield Archive(path, FileIdentity.of(os.fstat(file.fileno())), header, file)


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
