"""The objects of one bucket, which clients get from the store, or which this server passes on."""

import io
import tempfile
from collections.abc import Iterable
from typing import BinaryIO, cast

from resource_api.names import NAME_CHARACTERS, InvalidNameError, components_of
from resource_api.storage.etags import etag_of, named_etag
from resource_api.storage.interface import Listed, OpenResource, ResourceMissingError, UploadRefusedError
from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_uploads import S3Uploads

# A small part has some hundred KiB, a head at most 1 MiB; what is larger goes to an unnamed file.
MEMORY_BYTES = 4 << 20
# What stores take as a whole.
PUT_BYTES = 5 << 30
_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")


class BucketStorage:
    """The objects of one bucket, as `interface.Storage` describes."""

    def __init__(self, bucket: Bucket, key: bytes, url_seconds: int | None) -> None:
        """Authenticate the ids of uploads with `key`.

        Clients go to the store with presigned URLs that are valid for `url_seconds`; None: this server passes all on.
        """
        self._bucket = bucket
        self._url_seconds = url_seconds
        self.uploads = S3Uploads(bucket, key, url_seconds)

    def address(self, name: str) -> str | None:
        """Return a presigned URL, as `interface.Storage` says."""
        components_of(name)
        return None if self._url_seconds is None else self._bucket.url("GET", name, self._url_seconds)

    def open(self, name: str) -> OpenResource:
        """Open an object, as `interface.Storage` says."""
        components_of(name)
        if self._url_seconds is not None:
            size, etag = self._bucket.head(name)
            return OpenResource(io.BytesIO(), size, named_etag(name) or etag)
        # The whole object before the first byte of the response, because its ETag is a hash of it.
        file = self._bucket.get(name, _new_file)
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            return OpenResource(file, size, etag_of(name, file))
        except BaseException:
            file.close()
            raise

    def put(self, name: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store an object, as `interface.Storage` says. Of simultaneous calls several may say that it is new."""
        components_of(name)
        if size > PUT_BYTES:
            raise UploadRefusedError(f"What has more than {PUT_BYTES} bytes is uploaded in parts, see POST /uploads.")
        is_new = not self._exists(name)
        self._bucket.put(name, size, pieces)
        return is_new

    def delete(self, name: str) -> None:
        """Remove an object, as `interface.Storage` says."""
        components_of(name)
        # A store says the same of an object that it does not have.
        self._bucket.head(name)
        self._bucket.delete(name)

    def find(self, prefix: str) -> list[Listed]:
        """List objects, as `interface.Storage` says."""
        if len(prefix) > NAME_CHARACTERS or not _CHARACTERS.issuperset(prefix):
            return []
        return [each for each in self._bucket.find(prefix) if _is_name(each.name)]

    def _exists(self, name: str) -> bool:
        try:
            self._bucket.head(name)
        except ResourceMissingError:
            return False
        return True


def _new_file(size: int) -> BinaryIO:
    return io.BytesIO() if size <= MEMORY_BYTES else cast(BinaryIO, tempfile.TemporaryFile())


def _is_name(key: str) -> bool:
    try:
        components_of(key)
    except InvalidNameError:
        return False
    return True
