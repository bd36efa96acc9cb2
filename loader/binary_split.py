"""The archive of images on this device: opened, checked, and decrypted with the key fragment that only the API has."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from loader.blob_directory import blob_directory, open_blobs
from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import GZIP, Blob, Head, StoredHead
from loader.crypto.blobs import open_blob, require_stored
from loader.crypto.gzip_members import decompress
from loader.crypto.pieces import PieceDigests
from loader.crypto.signatures import find_signers
from loader.crypto.streaming_aead import Prove
from loader.errors import (
    ArchiveCorrupt,
    ArchiveIncomplete,
    ArchiveNotFound,
    Checkpoint,
    CorruptCiphertext,
    KeyMismatch,
    UntrustedPublisher,
    VersionMismatch,
)
from loader.files import FileIdentity, NotRegular, OnBytes, open_regular, storage, write_at
from loader.oci import TAR_END, Layout, blob_path, digest_of, member_header, padding, require_described
from loader.publisher_keys import PublisherKeys
from loader.references import LATEST
from loader.stored_blobs import DigestsAhead, StoredBlob

# Starts a stage of work on archives, for example a progress bar: gets its name and its size in bytes, 0 if nobody knows
# it. The block of the stage calls the function with the number of bytes of each piece.
Stage = Callable[[str, int], AbstractContextManager[OnBytes]]


def identify(path: Path) -> FileIdentity | None:
    """Return the identity of the file at `path`, None if there is none. Raises StorageError."""
    with storage(path, 0):
        try:
            return FileIdentity.of(path.stat())
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Archive:
    """An open archive. Nothing in its head is authentic before `unseal`.

    `beside` are the open files of blobs that lie in the directory of the archive, by the digests of their content.
    """

    path: Path
    identity: FileIdentity
    index: ArchiveIndex
    file: io.FileIO
    beside: Mapping[str, io.FileIO] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """What the archive says that it holds."""
        return self.index.head

    @property
    def absent(self) -> tuple[Blob, ...]:
        """The blobs that are neither in the file nor in its directory."""
        return tuple(blob for blob in self.index.absent if blob.digest not in self.beside)

    def require_publisher(self, trusted: PublisherKeys | None) -> None:
        """Raise UntrustedPublisher unless the owner of one of these keys has signed the head; None trusts everybody."""
        require_publisher(self.index, trusted)

    def require_version(self, version: str) -> None:
        """Raise VersionMismatch unless the archive is the release of this version; LATEST is any."""
        require_version(self.index, version)

    def require_complete(self) -> None:
        """Raise ArchiveIncomplete unless every blob is there."""
        if absent := self.absent:
            size = sum(blob.stored_size for blob in absent)
            raise ArchiveIncomplete(f"The archive {self.path} lacks {len(absent)} blobs of {size} bytes.")

    def require_fragment(self, fragment: bytes) -> None:
        """Raise KeyMismatch unless the archive was sealed with `fragment`."""
        if not self.index.seals.match(fragment):
            raise KeyMismatch("The archive was made for another key fragment.")

    def unseal(self, fragment: bytes, checkpoint: Checkpoint) -> Contents:
        """Return the contents once the head and its root are proven, and every manifest and configuration.

        Raises ArchiveCorrupt, StorageError, and what `checkpoint` raises.
        """
        with archive_faults(self.path):
            contents = Contents(self, self.index.seals.open(self.index.stored, fragment), checkpoint)
        contents.require_descriptions()
        return contents

    def stored(self, blob: Blob) -> StoredBlob:
        """Return the stored bytes of a blob that is not absent."""
        if (file := self.beside.get(blob.digest)) is not None:
            return StoredBlob(file, 0, blob.stored_size)
        return StoredBlob(self.file, self.index.offsets[blob.digest], blob.stored_size)

    def copy(self, blob: Blob, file: BinaryIO, path: Path, offset: int, on_written: OnBytes) -> None:
        """Copy the stored bytes of a blob to `offset` of `file`, which lies at `path`.

        `on_written` gets the bytes of each piece. Raises ArchiveCorrupt at the end unless the bytes are those that the
        head names, StorageError, and DiskSpace.
        """
        for piece in self.pieces(blob):
            with storage(path, blob.stored_size):
                write_at(file.fileno(), piece, offset)
            offset += len(piece)
            on_written(len(piece))

    def pieces(self, blob: Blob) -> Iterator[memoryview]:
        """Yield the stored bytes of a blob in pieces, each of which is valid until the next is taken.

        Raises StorageError, and ArchiveCorrupt at the end unless the bytes are those that the head names.
        """
        digests = PieceDigests()
        with archive_faults(self.path):
            yield from self.stored(blob).pieces(digests)
            require_stored(blob, digests)

    def digests_ahead(self, digests: Iterable[str], checkpoint: Checkpoint) -> DigestsAhead:
        """Start to hash the stored bytes of these blobs. Nothing of it is a proof before `Contents.require_stored`."""
        return DigestsAhead({digest: self.stored(self.head.blob[digest]) for digest in digests}, checkpoint)


ReadBlob = Callable[[str], Iterator[bytes | memoryview]]


class Contents:
    """What an unsealed archive holds. A blob can be read once it was authenticated."""

    def __init__(self, archive: Archive, root: bytes, checkpoint: Checkpoint) -> None:
        """`checkpoint` is called before each piece that is read."""
        self.head = archive.head
        self._archive = archive
        self._root = root
        self._checkpoint = checkpoint
        self._digests: dict[str, PieceDigests] = {}

    def require_descriptions(self) -> None:
        """Authenticate manifests and configurations, and compare them with the head. Raises ArchiveCorrupt."""
        for image, *_ in self.head.distinct_images:
            for digest in (image.manifest, image.config):
                for _ in self.authenticate(digest):
                    pass
            manifest, config = self._whole(image.manifest), self._whole(image.config)
            with archive_faults(self._archive.path):
                require_described(self.head, image, manifest, config)

    def authenticate(self, digest: str) -> Iterator[int]:
        """Compare a blob with the head, and yield how many bytes were read so far. Does nothing if that was done.

        The digests of its pieces are kept, because the file may change before the blob is read. Raises ArchiveCorrupt,
        StorageError, and what the checkpoint raises.
        """
        if digest in self._digests:
            return
        digests, done = PieceDigests(), 0
        with archive_faults(self._archive.path):
            for size in self._archive.stored(self.head.blob[digest]).add_to(digests):
                self._checkpoint()
                done += size
                yield done
        self.require_stored(digest, digests)

    def require_stored(self, digest: str, digests: PieceDigests) -> None:
        """Compare the digests of a blob's stored bytes with the head, and keep them. Raises ArchiveCorrupt."""
        with archive_faults(self._archive.path):
            require_stored(self.head.blob[digest], digests)
        self._digests[digest] = digests

    def content(self, digest: str) -> Iterator[bytes | memoryview]:
        """Yield the content of an authenticated blob; each piece is valid until the next is taken.

        Each piece of the file is compared with what was authenticated before it is decrypted. Raises ArchiveCorrupt,
        StorageError, and what the checkpoint raises.
        """
        digests = self._digests[digest]

        def prove(number: int, piece: memoryview) -> None:
            if not digests.match(number, piece):
                raise CorruptCiphertext(f"the blob {digest} changed while it was read")

        yield from self._opened(digest, prove)

    def content_to_prove(self, digest: str) -> Iterator[bytes | memoryview]:
        """Authenticate a blob while its content is yielded: none of it may leave the device before the end.

        Each piece is valid until the next is taken. Raises what `content` raises.
        """
        digests = PieceDigests()
        yield from self._opened(digest, digests.note)
        self.require_stored(digest, digests)

    def layout(self, layout: Layout, content: ReadBlob) -> Iterator[bytes | memoryview]:
        """Yield the tar of one image, whose blobs `content` reads; each piece is valid until the next is taken.

        Raises what `content` raises.
        """
        yield from layout.listing()
        for digest in layout.blobs:
            size = self.head.blob[digest].size
            yield member_header(blob_path(digest), size)
            yield from content(digest)
            yield padding(size)
        yield TAR_END

    def _opened(self, digest: str, prove: Prove) -> Iterator[bytes | memoryview]:
        blob = self.head.blob[digest]
        with archive_faults(self._archive.path):
            packed = self._checked(open_blob(self._archive.stored(blob), blob, self._root, prove))
            yield from decompress(packed, blob.size) if blob.codec == GZIP else packed

    def _checked(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        for piece in pieces:
            self._checkpoint()
            yield piece

    def _whole(self, digest: str) -> bytes:
        data = b"".join(map(bytes, self.content(digest)))
        if digest_of(data) != digest:
            with archive_faults(self._archive.path):
                raise CorruptCiphertext(f"the blob {digest} does not have that digest")
        return data


def require_publisher(index: ArchiveIndex, trusted: PublisherKeys | None) -> None:
    """Do what `Archive.require_publisher` does."""
    if trusted is not None and not any(find_signers(index.stored, index.seals.signatures, trusted)):
        raise UntrustedPublisher("The archive has no valid signature by a key in PUBLISHER_KEYS.")


def require_version(index: ArchiveIndex, version: str) -> None:
    """Do what `Archive.require_version` does."""
    held = index.head.release.version
    if version not in (LATEST, held):
        raise VersionMismatch(f"The archive is release {held}, but the device wants version {version}.")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the archive at `path` and read all but its blobs. Raises ArchiveNotFound, ArchiveCorrupt or StorageError."""
    while True:
        with ExitStack() as opened:
            archive = _read(path, opened)
            # Start again if the archive was replaced meanwhile, because blobs that only it needed may be gone by now.
            if archive.absent and identify(path) != archive.identity:
                continue
            yield archive
            return


def read_head(path: Path) -> StoredHead:
    """Return the head of the archive at `path`, which nobody has authenticated.

    Raises ArchiveNotFound, ArchiveCorrupt or StorageError.
    """
    with _opened(path) as file, archive_faults(path):
        return ArchiveIndex.read(file, os.fstat(file.fileno()).st_size).stored


def _read(path: Path, opened: ExitStack) -> Archive:
    file = opened.enter_context(_opened(path))
    with archive_faults(path):
        status = os.fstat(file.fileno())
        index = ArchiveIndex.read(file, status.st_size)
        beside = open_blobs(blob_directory(path), index.absent, opened)
    return Archive(path, FileIdentity.of(status), index, file, beside)


def _opened(path: Path) -> io.FileIO:
    with archive_faults(path):
        try:
            # Follow a link, because operators keep the archive on another disk and link to it.
            return io.FileIO(open_regular(path, follow=True))
        except FileNotFoundError as exc:
            raise ArchiveNotFound(f"There is no archive at {path}.") from exc
        except NotRegular as exc:
            raise CorruptCiphertext(str(exc.strerror)) from exc


@contextmanager
def archive_faults(path: Path) -> Iterator[None]:
    """Raise ArchiveCorrupt for a CorruptCiphertext of the block, and StorageError for an OSError."""
    try:
        with storage(path, 0):
            yield
    except CorruptCiphertext as exc:
        raise ArchiveCorrupt(f"The archive {path} is damaged: {exc}.") from exc
