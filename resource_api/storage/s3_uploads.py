"""Resumable uploads to a bucket: each is one multipart upload of the store.

Nothing about an upload is kept at this server. Its id contains all that is to be known, and a MAC over it and the user,
made with a key that all processes of the server share; so any of them continues any upload.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from resource_api.names import components_of
from resource_api.storage.interface import (
    PartAddress,
    ResourceMissingError,
    StoredPart,
    TooManyUploadsError,
    Upload,
    UploadMissingError,
    UploadRefusedError,
)
from resource_api.storage.s3_bucket import Bucket, part_query
from resource_api.storage.upload_rules import PART_BYTES, UPLOAD_SECONDS, part_sizes_of

# Of all users. The parts of abandoned uploads occupy the store until they expire.
OPEN_UPLOADS = 1_000
_MAC_BYTES = 16


class S3Uploads:
    """The uploads to one bucket, as `interface.Uploads` describes."""

    def __init__(self, bucket: Bucket, key: bytes, url_seconds: int | None) -> None:
        """Authenticate ids with `key`.

        Clients get presigned URLs that are valid for `url_seconds`; None: this server passes parts on.
        """
        self._bucket = bucket
        self._key = key
        self._url_seconds = url_seconds

    def create(self, name: str, size: int, user: str) -> Upload:
        """Begin an upload, as `interface.Uploads` says."""
        components_of(name)
        part_size, _ = part_sizes_of(size, PART_BYTES)
        self._sweep()
        expires = int(time.time()) + UPLOAD_SECONDS
        fields = [name, size, part_size, expires, self._bucket.create_upload(name)]
        text = json.dumps(fields, separators=(",", ":")).encode()
        return _upload(f"{_encoded(text)}.{_encoded(self._mac(text, user))}", fields, user)

    def find(self, upload: str, user: str) -> Upload:
        """Return an upload, as `interface.Uploads` says, without a request to the store."""
        text, _, mac = upload.partition(".")
        try:
            content = _decoded(text)
            if not hmac.compare_digest(_decoded(mac), self._mac(content, user)):
                raise UploadMissingError
        except ValueError as error:
            raise UploadMissingError from error
        found = _upload(upload, json.loads(content), user)
        if found.expires <= time.time():
            raise UploadMissingError
        return found

    def parts(self, upload: Upload) -> list[StoredPart]:
        """Return the parts that are there, as `interface.Uploads` says."""
        return self._bucket.parts(upload.name, _store_id(upload))

    def addresses(self, upload: Upload, numbers: list[int]) -> list[PartAddress]:
        """Return where to put parts, as `interface.Uploads` says."""
        return [self._address(upload, number) for number in numbers]

    def put_part(self, upload: Upload, number: int, size: int, md5: bytes | None, pieces: Iterable[bytes]) -> str:
        """Pass a part on to the store, as `interface.Uploads` says."""
        header = None if md5 is None else base64.b64encode(md5).decode()
        upload.require_part(number, size)
        return self._bucket.put_part(upload.name, _store_id(upload), number, size, pieces, header)

    def complete(self, upload: Upload, etags: dict[int, str]) -> None:
        """Make the object of the parts, as `interface.Uploads` says."""
        if set(etags) != set(range(1, upload.part_count + 1)):
            raise UploadRefusedError(f"The parts to complete have to be 1 to {upload.part_count}.")
        try:
            self._bucket.complete(upload.name, _store_id(upload), etags)
        except UploadMissingError:
            # A store may forget a completed upload, and the client may not have got the response.
            if not self._is_made_of(upload, etags):
                raise

    def abort(self, upload: Upload) -> None:
        """Forget the upload, as `interface.Uploads` says; UploadMissingError also if it is completed."""
        self._bucket.abort(upload.name, _store_id(upload))

    def _address(self, upload: Upload, number: int) -> PartAddress:
        size = min(upload.part_size, upload.size - upload.begin_of(number))
        if self._url_seconds is None:
            return PartAddress(number, f"/uploads/{upload.id}/parts/{number}", ["Authorization", "Content-Length"])
        # The length is signed, so that the address is good for a part of this size only. No Content-MD5, see
        # `DirectoryUploads.addresses`.
        query, headers = part_query(_store_id(upload), number), {"content-length": str(size)}
        url = self._bucket.url("PUT", upload.name, self._url_seconds, query, headers)
        return PartAddress(number, url, ["Content-Length"])

    def _is_made_of(self, upload: Upload, etags: dict[int, str]) -> bool:
        """Return whether the object is the one that this upload has made, by the ETag of multipart uploads."""
        try:
            digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(etags.items()))
            size, etag = self._bucket.head(upload.name)
        except (ValueError, ResourceMissingError):
            return False
        whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return (size, etag) == (upload.size, f"{whole}-{upload.part_count}")

    def _sweep(self) -> None:
        """Abort uploads that have expired. Raises TooManyUploadsError if too many are left."""
        now, kept = time.time(), 0
        for each in list(self._bucket.uploads()):
            if each.started + UPLOAD_SECONDS > now:
                kept += 1
                continue
            with suppress(UploadMissingError):  # another process aborts it, too
                self._bucket.abort(each.key, each.id)
        if kept >= OPEN_UPLOADS:
            raise TooManyUploadsError

    def _mac(self, text: bytes, user: str) -> bytes:
        return hmac.digest(self._key, text + b"\0" + user.encode(), "sha256")[:_MAC_BYTES]


def _upload(upload: str, fields: list[Any], user: str) -> Upload:
    name, size, part_size, expires, _ = fields
    return Upload(upload, name, size, part_size, part_size, user, expires)


def _store_id(upload: Upload) -> str:
    """Return the id that the store has given the upload; `find` and `create` return none with another id."""
    return str(json.loads(_decoded(upload.id.partition(".")[0]))[-1])


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
