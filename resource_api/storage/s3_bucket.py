"""One bucket of an S3-compatible store, with the calls that the storage needs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element, SubElement, tostring  # nosec B405  # these parse nothing

from resource_api.storage.interface import (
    DiskFullError,
    Listed,
    ResourceMissingError,
    StoredPart,
    StoreError,
    UploadMissingError,
    UploadRefusedError,
)
from resource_api.storage.s3_client import SizedBody, StoreClient, StoreRefusalError, document

READ_BYTES = 1 << 20
# The codes with which stores refuse the parts of an upload, or the content of one part.
_REFUSED_UPLOADS = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "BadDigest", "InvalidDigest"}
_FULL = {"QuotaExceeded", "InsufficientStorage"}


class OpenUpload(NamedTuple):
    """A multipart upload that was neither completed nor aborted, and when it was started, in seconds since 1970."""

    key: str
    id: str
    started: float


class Bucket:
    """The bucket `name`, whose objects have the keys that they have at this server. Threads may share it.

    All methods but `url` raise StoreError, and those with an upload's id UploadMissingError.
    """

    def __init__(self, client: StoreClient, name: str) -> None:
        self._client = client
        self._name = name

    def url(
        self,
        method: str,
        key: str,
        seconds: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return a presigned URL, as `Signer.url` says."""
        return self._client.signer.url(method, self._path(key), seconds, query, headers)

    def head(self, key: str) -> tuple[int, str]:
        """Return the size and the store's ETag without quotes. Raises ResourceMissingError."""
        with _errors(), self._client.send("HEAD", self._path(key)) as response:
            return int(response.headers.get("Content-Length", "0")), response.headers.get("ETag", "").strip('"')

    def get(self, key: str, new_file: Callable[[int], BinaryIO]) -> BinaryIO:
        """Return the whole object in the file that `new_file` makes for its size. Raises ResourceMissingError."""
        with _errors(), self._client.send("GET", self._path(key)) as response, ExitStack() as opened:
            announced = int(response.headers.get("Content-Length", "0"))
            file = opened.enter_context(new_file(announced))
            for piece in response.iter_content(READ_BYTES):
                file.write(piece)
            if file.tell() != announced:
                raise StoreError(f"the store sent {file.tell()} of {announced} bytes")
            file.seek(0)
            opened.pop_all()
            return file

    def put(self, key: str, size: int, pieces: Iterable[bytes]) -> None:
        """Store an object. If iterating `pieces` raises, nothing changes. Raises DiskFullError."""
        with _errors(), self._client.send("PUT", self._path(key), body=_sized(size, pieces)):
            pass

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        with _errors(), self._client.send("DELETE", self._path(key)):
            pass

    def find(self, prefix: str) -> Iterator[Listed]:
        """Yield all objects whose keys begin with `prefix`, in the order of their keys."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        for page in self._pages("", query, {"continuation-token": "NextContinuationToken"}):
            for each in page.findall("{*}Contents"):
                yield Listed(unquote(_text(each, "Key")), int(_text(each, "Size")))

    def create_upload(self, key: str) -> str:
        """Start a multipart upload and return its id."""
        with _errors(), self._client.send("POST", self._path(key), {"uploads": ""}) as response:
            return _text(document(response), "UploadId")

    def put_part(self, key: str, upload: str, number: int, size: int, pieces: Iterable[bytes], md5: str | None) -> str:
        """Store a part and return its ETag without quotes. If iterating `pieces` raises, nothing changes.

        `md5` is a Content-MD5. Raises UploadRefusedError for other content, and DiskFullError.
        """
        query, headers = part_query(upload, number), {} if md5 is None else {"Content-MD5": md5}
        body = _sized(size, pieces)
        with _upload_errors(), self._client.send("PUT", self._path(key), query, body, headers) as response:
            return str(response.headers.get("ETag", "")).strip('"')

    def parts(self, key: str, upload: str) -> list[StoredPart]:
        """Return the parts that are there, in the order of their numbers."""
        with _upload_errors():
            pages = self._pages(key, {"uploadId": upload}, {"part-number-marker": "NextPartNumberMarker"})
            return [
                StoredPart(int(_text(each, "PartNumber")), int(_text(each, "Size")), _text(each, "ETag").strip('"'))
                for page in pages
                for each in page.findall("{*}Part")
            ]

    def complete(self, key: str, upload: str, etags: Mapping[int, str]) -> None:
        """Make the object of the parts, whose ETags `etags` has by number. Raises UploadRefusedError."""
        root = Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
        for number, etag in sorted(etags.items()):
            part = SubElement(root, "Part")
            SubElement(part, "PartNumber").text = str(number)
            SubElement(part, "ETag").text = f'"{etag}"'
        with (
            _upload_errors(),
            self._client.send("POST", self._path(key), {"uploadId": upload}, tostring(root)) as response,
        ):
            # The document may have no ETag, and is read because it may be an error in spite of the status.
            document(response)

    def abort(self, key: str, upload: str) -> None:
        """Remove an upload that is not completed, with its parts."""
        with _upload_errors(), self._client.send("DELETE", self._path(key), {"uploadId": upload}):
            pass

    def uploads(self) -> Iterator[OpenUpload]:
        """Yield all multipart uploads that were neither completed nor aborted."""
        markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
        for page in self._pages("", {"uploads": "", "encoding-type": "url"}, markers):
            for each in page.findall("{*}Upload"):
                started = datetime.fromisoformat(_text(each, "Initiated")).timestamp()
                yield OpenUpload(unquote(_text(each, "Key")), _text(each, "UploadId"), started)

    def _pages(self, key: str, query: Mapping[str, str], markers: Mapping[str, str]) -> Iterator[Element]:
        """Yield the pages of a list. `markers`: parameter of the next request -> element that has its value."""
        asked = dict(query)
        while True:
            with _errors(), self._client.send("GET", self._path(key), asked) as response:
                page = document(response)
            yield page
            if page.findtext("{*}IsTruncated") != "true":
                return
            asked |= {name: _text(page, element) for name, element in markers.items()}
            if "key-marker" in asked:
                asked["key-marker"] = unquote(asked["key-marker"])

    def _path(self, key: str) -> str:
        return f"/{self._name}/{key}" if key else f"/{self._name}"


def part_query(upload: str, number: int) -> dict[str, str]:
    """Return the parameters of the PUT of a part."""
    return {"partNumber": str(number), "uploadId": upload}


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what a refusal of the store means for a call of an object or of the bucket."""
    try:
        yield
    except StoreRefusalError as error:
        # A HEAD has no code.
        if error.status == 404 and error.code in ("", "NoSuchKey"):
            raise ResourceMissingError from error
        if error.status == 507 or error.code in _FULL:
            raise DiskFullError from error
        raise StoreError(f"the store refuses a call of this server: {error}") from error


@contextmanager
def _upload_errors() -> Iterator[None]:
    """Raise what a refusal of the store means for a call of an upload."""
    try:
        with _errors():
            yield
    except ResourceMissingError as error:
        raise UploadMissingError from error
    except StoreError as error:
        match error.__cause__:
            case StoreRefusalError(code="NoSuchUpload"):
                raise UploadMissingError from error
            case StoreRefusalError(code=code) if code in _REFUSED_UPLOADS:
                raise UploadRefusedError(f"The store does not take these parts: {code}.") from error
        raise


def _sized(size: int, pieces: Iterable[bytes]) -> SizedBody:
    """Return a body that holds each piece back until the next one came, and the last one until the end came.

    So the store lacks at least one byte if iterating raises, also at the very end, and keeps what it has.
    """

    def held() -> Iterator[bytes]:
        last = b""
        for piece in pieces:
            if last:
                yield last
            last = piece
        if last:
            yield last

    return SizedBody(size, held())


def _text(element: Element, name: str) -> str:
    text = element.findtext(f"{{*}}{name}")
    if text is None:
        raise StoreError(f"the store sent a document without {name}")
    return text
