"""Two storages as one: big parts and image blobs in one of them, everything else in the other.

Small parts and heads are what a device lacks, so they stay where only this server gets: what is in the big storage is
worthless alone, and its credentials give no access to the small one.
"""

import re
from collections.abc import Iterable

from resource_api.storage.interface import (
    Listed,
    OpenResource,
    PartAddress,
    Storage,
    StoredPart,
    Upload,
    UploadMissingError,
    Uploads,
)

_BIG = re.compile(r".*\.big|images/[^/]*\.blob", re.DOTALL)


def is_big(name: str) -> bool:
    """Return whether an object is a big part or an image blob."""
    return _BIG.fullmatch(name) is not None


class DividedStorage:
    """The objects of both storages, as `interface.Storage` describes."""

    def __init__(self, big: Storage, small: Storage) -> None:
        self._big = big
        self._small = small
        self.uploads = DividedUploads(big.uploads, small.uploads)

    def address(self, name: str) -> str | None:
        """Return a URL, as `interface.Storage` says."""
        return self._of(name).address(name)

    def open(self, name: str) -> OpenResource:
        """Open an object, as `interface.Storage` says."""
        return self._of(name).open(name)

    def put(self, name: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store an object, as `interface.Storage` says."""
        return self._of(name).put(name, size, pieces)

    def delete(self, name: str) -> None:
        """Remove an object, as `interface.Storage` says."""
        self._of(name).delete(name)

    def find(self, prefix: str) -> list[Listed]:
        """List objects, as `interface.Storage` says; one that lies in the wrong storage is not found there."""
        found = [each for each in self._big.find(prefix) if is_big(each.name)]
        found += [each for each in self._small.find(prefix) if not is_big(each.name)]
        return sorted(found)

    def _of(self, name: str) -> Storage:
        return self._big if is_big(name) else self._small


class DividedUploads:
    """The uploads to both storages, as `interface.Uploads` describes."""

    def __init__(self, big: Uploads, small: Uploads) -> None:
        self._big = big
        self._small = small

    def create(self, name: str, size: int, user: str) -> Upload:
        """Begin an upload, as `interface.Uploads` says."""
        return self._of(name).create(name, size, user)

    def find(self, upload: str, user: str) -> Upload:
        """Return an upload, as `interface.Uploads` says."""
        try:
            return self._big.find(upload, user)
        except UploadMissingError:
            return self._small.find(upload, user)

    def parts(self, upload: Upload) -> list[StoredPart]:
        """Return the parts that are there, as `interface.Uploads` says."""
        return self._of(upload.name).parts(upload)

    def addresses(self, upload: Upload, numbers: list[int]) -> list[PartAddress]:
        """Return where to put parts, as `interface.Uploads` says."""
        return self._of(upload.name).addresses(upload, numbers)

    def put_part(self, upload: Upload, number: int, size: int, md5: bytes | None, pieces: Iterable[bytes]) -> str:
        """Store a part, as `interface.Uploads` says."""
        return self._of(upload.name).put_part(upload, number, size, md5, pieces)

    def complete(self, upload: Upload, etags: dict[int, str]) -> None:
        """Make the object of the parts, as `interface.Uploads` says."""
        self._of(upload.name).complete(upload, etags)

    def abort(self, upload: Upload) -> None:
        """Forget the upload, as `interface.Uploads` says."""
        self._of(upload.name).abort(upload)

    def _of(self, name: str) -> Uploads:
        return self._big if is_big(name) else self._small
