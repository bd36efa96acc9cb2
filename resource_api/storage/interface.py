"""What every storage offers to the views, and the errors that it raises."""

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, Protocol


class ResourceMissingError(Exception):
    """There is no object with this name."""


class NameCollisionError(Exception):
    """The name needs a folder where an object exists, or an object where a folder exists."""


class DiskFullError(Exception):
    """The object does not fit on the disk."""


class UploadMissingError(Exception):
    """The user has no upload with this id; it may have been aborted, or have expired."""


class UploadRefusedError(ValueError):
    """The request does not fit the upload. The text is a sentence for the client."""


class TooManyUploadsError(Exception):
    """The user has as many open uploads as one user may have."""


class StoreError(OSError):
    """The store does not respond, or refuses this server. The text is for the log; it contains no signed URL."""


class OpenResource(NamedTuple):
    """An object opened for reading. Its content stays the same even if the object is replaced meanwhile.

    The file of an object that has an `address` is empty, because this server does not read it.
    """

    file: BinaryIO
    size: int
    etag: str


class Listed(NamedTuple):
    """An object in a listing: its name with folders, and its size in bytes."""

    name: str
    size: int


class Upload(NamedTuple):
    """A resumable upload: what it will be, and who began it. `expires` is in seconds since 1970.

    A part has any multiple of `min_part_size` up to `part_size` bytes, or the rest of the object, and begins where its
    number says: the part n at (n - 1) * min_part_size.
    """

    id: str
    name: str
    size: int
    part_size: int
    min_part_size: int
    user: str
    expires: int

    @property
    def part_count(self) -> int:
        """The most parts that there can be, which is the highest number."""
        return -(-self.size // self.min_part_size)

    def begin_of(self, number: int) -> int:
        """Return where the part `number` begins. Raises UploadRefusedError if there is none."""
        if not 1 <= number <= self.part_count:
            raise UploadRefusedError(f"The parts of this upload have the numbers 1 to {self.part_count}.")
        return (number - 1) * self.min_part_size

    def require_part(self, number: int, size: int) -> None:
        """Raise UploadRefusedError unless the part `number` may have `size` bytes."""
        rest = self.size - self.begin_of(number)
        largest = min(rest, self.part_size)
        if not 0 < size <= largest or (size % self.min_part_size and size != rest):
            raise UploadRefusedError(
                f"The part {number} of this upload has {largest} bytes, or fewer in multiples of {self.min_part_size}."
            )


class StoredPart(NamedTuple):
    """A part that the storage has: its number, its size in bytes, and its ETag without quotes."""

    number: int
    size: int
    etag: str


class PartAddress(NamedTuple):
    """Where a client puts a part. `url` is a path at the API if it begins with a slash.

    `headers` are the names of the headers that the request must have.
    """

    number: int
    url: str
    headers: list[str]


class Uploads(Protocol):
    """Resumable uploads. All their state is in the storage, so that any process continues any upload.

    All methods raise OSError if the storage fails, and those with an upload's id UploadMissingError.
    """

    def create(self, name: str, size: int, user: str) -> Upload:
        """Begin an upload.

        Raises InvalidNameError, UploadRefusedError, NameCollisionError, DiskFullError and TooManyUploadsError.
        """

    def find(self, upload: str, user: str) -> Upload:
        """Return the upload of this user."""

    def parts(self, upload: Upload) -> list[StoredPart]:
        """Return the parts that are there, in the order of their numbers."""

    def addresses(self, upload: Upload, numbers: list[int]) -> list[PartAddress]:
        """Return where to put each of the parts. Raises UploadRefusedError for a number that the upload lacks."""

    def put_part(self, upload: Upload, number: int, size: int, md5: bytes | None, pieces: Iterable[bytes]) -> str:
        """Store a part of `size` bytes, of which there may be one already, and return its ETag without quotes.

        It replaces all parts that it overlaps. If iterating `pieces` raises, nothing changes. Raises UploadRefusedError
        for a part that the upload cannot have, which is said before `pieces` is read, for content of another size or
        with another MD5 than `md5`, unless that is None, and DiskFullError.
        """

    def complete(self, upload: Upload, etags: dict[int, str]) -> None:
        """Make the object of the parts, whose ETags `etags` has by number; nothing happens if that was done before.

        Raises UploadRefusedError if a part is missing or has another ETag, and NameCollisionError.
        """

    def abort(self, upload: Upload) -> None:
        """Forget the upload and its parts. An object that was made of them stays."""


class Storage(Protocol):
    """The objects, and the uploads of objects. Any number of threads and processes may use it at the same time."""

    @property
    def uploads(self) -> Uploads:
        """The resumable uploads."""

    def address(self, name: str) -> str | None:
        """Return a URL with which a client gets the object from the store for some minutes; None if `open` has to do.

        The store is not asked, so the object may be missing. Raises InvalidNameError.
        """

    def open(self, name: str) -> OpenResource:
        """Open an object; the caller closes its file.

        Raises InvalidNameError, ResourceMissingError, and OSError if the storage fails.
        """

    def put(self, name: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store `pieces`, which are `size` bytes, under `name`; return whether the name is new.

        If iterating `pieces` raises, nothing changes and the exception propagates.
        Raises InvalidNameError, NameCollisionError, DiskFullError, UploadRefusedError, and OSError if the storage
        fails.
        """

    def delete(self, name: str) -> None:
        """Remove an object; its folders stay. Downloads that have begun go on.

        Raises InvalidNameError, ResourceMissingError, and OSError if the storage fails.
        """

    def find(self, prefix: str) -> list[Listed]:
        """Return the objects whose names begin with `prefix`, in the order of their names.

        Raises OSError if the storage fails.
        """
