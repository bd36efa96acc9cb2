"""Uploads in parts at the resource API: started, sent, continued after a cut, completed or abandoned."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from loader.api_client.checks import acknowledgement, json_object, successful
from loader.api_client.responses import Response
from loader.api_client.transport import Body, Transport
from loader.crypto.json_header import is_integer, is_size
from loader.errors import ApiError, ApiProtocol, Checkpoint

# The most parts that an upload can have, with some hundred bytes for each.
RESPONSE_MAX_SIZE = 16 * 1024 * 1024
ETAG_MAX_LENGTH = 256
# The API removes an upload by itself once that has expired, so asking it to is not worth more time.
ABANDON_SECONDS = 10.0
# Such an API takes objects only as a whole: it knows no parts, or this user has too many uploads that still are open.
NOT_OFFERED = (404, 405, 409)
# How stores and the API refuse an address that has expired.
ADDRESS_REFUSALS = (400, 401, 403)
# How stores and the API refuse a list of parts that does not fit what they have.
PARTS_REFUSALS = (400, 409, 422)
# The headers that the loader can send with a part.
SENT_HEADERS = {"authorization", "content-length", "content-md5"}


class UploadLost(Exception):
    """The API no longer has the upload, because it has expired or somebody has removed it."""


class AddressRefused(Exception):
    """A part needs a new address. `error` is what to tell if that is refused as well."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class PartsRefused(Exception):
    """The API has not the parts that the list names. `error` is what to tell if the list is right."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Upload:
    """An upload that the API has started. Its parts have `smallest` to `largest` bytes, the last one may have fewer."""

    id: str
    smallest: int
    largest: int


@dataclass(frozen=True)
class StoredPart:
    """A part that the API has: its size in bytes, and its ETag."""

    size: int
    etag: str


@dataclass(frozen=True)
class Address:
    """Where a part goes. The address is a secret for as long as it is valid. `wants_md5`: with Content-MD5."""

    url: str = field(repr=False)
    wants_md5: bool


class Uploads:
    """The calls for one login. Threads may share it.

    Every method may raise ApiUnreachable, ApiError and ApiProtocol, and all but `start` raise UploadLost.
    """

    def __init__(
        self,
        transport: Transport,
        authorized: Callable[[Callable[[str], Response]], Response],
        checkpoint: Checkpoint,
    ) -> None:
        """`authorized` calls its argument with a token. `checkpoint` ends calls early."""
        self._transport = transport
        self._authorized = authorized
        self._checkpoint = checkpoint
        self._token: str | None = None

    def start(self, name: str, size: int) -> Upload | None:
        """Start an upload of the object `name`, which has `size` bytes; None if the API takes no parts of it.

        Raises Forbidden if the account may only read.
        """
        document = {"name": name, "size": size}
        with self._transport.deadline(self._checkpoint):
            response = self._call("POST", "/uploads", document)
            if response.status in NOT_OFFERED:
                response.close()
                return None
            return _started(json_object(successful(response, (200, 201)), RESPONSE_MAX_SIZE))

    def parts(self, upload: Upload) -> dict[int, StoredPart]:
        """Return the parts that the API has, by their numbers."""
        with self._transport.deadline(self._checkpoint):
            response = self._found(self._call("GET", _path(upload)))
            listed = json_object(successful(response, (200,)), RESPONSE_MAX_SIZE).get("parts")
        if not isinstance(listed, list):
            raise ApiProtocol("The resource API sent a list of parts without the field parts.")
        return dict(map(_listed, listed))

    def addresses(self, upload: Upload, numbers: Iterable[int]) -> dict[int, Address]:
        """Return where the parts of these numbers go."""
        with self._transport.deadline(self._checkpoint):
            response = self._found(self._call("POST", f"{_path(upload)}/urls", {"parts": sorted(numbers)}))
            listed = json_object(successful(response, (200, 201)), RESPONSE_MAX_SIZE).get("urls")
        if not isinstance(listed, list):
            raise ApiProtocol("The resource API sent addresses without the field urls.")
        return dict(map(_addressed, listed))

    def send(self, address: Address, body: Body, md5: str | None, ended_by: Checkpoint) -> str:
        """Send a part with its `content_md5`, or without it, and return its ETag.

        It may take any time, but `ended_by` ends it within some seconds.
        Raises AddressRefused if the address is not valid any more.
        """
        with self._transport.deadline(ended_by, math.inf):
            response = self._send(address, body, md5)
        with self._transport.deadline(ended_by):
            if response.status == 404:
                response.close()
                raise UploadLost
            try:
                etag = acknowledgement(successful(response, (200, 201, 204))).headers.get("ETag", "")
            except ApiError as exc:
                if response.status in ADDRESS_REFUSALS:
                    raise AddressRefused(exc) from exc
                raise
            response.close()
        if not 0 < len(etag) <= ETAG_MAX_LENGTH:
            raise ApiProtocol("The resource API, or its store, took a part of an upload without an ETag.")
        return etag

    def complete(self, upload: Upload, parts: Iterable[tuple[int, str]]) -> None:
        """Make the object of these parts: their numbers in order, and their ETags. It may be repeated.

        Raises PartsRefused if the API has other parts.
        """
        document = {"parts": [{"number": number, "etag": etag} for number, etag in parts]}
        with self._transport.deadline(self._checkpoint):
            response = self._found(self._call("POST", f"{_path(upload)}/complete", document))
            try:
                acknowledgement(successful(response, (200, 201, 204))).close()
            except ApiError as exc:
                if response.status in PARTS_REFUSALS:
                    raise PartsRefused(exc) from exc
                raise

    def abandon(self, upload: Upload) -> None:
        """Let the API remove the upload with all its parts, also after a lock. This must be the last call.

        It carries the token of the calls before, which is forgotten then.
        """
        token, self._token = self._token, None
        with self._transport.deadline(lambda: None, ABANDON_SECONDS):
            response = self._transport.send("DELETE", _path(upload), token=token)
            successful(self._found(response), (200, 202, 204)).close()

    def _call(self, method: str, path: str, document: Any = None) -> Response:
        def send(token: str) -> Response:
            self._token = token
            return self._transport.send(method, path, token=token, document=document)

        return self._authorized(send)

    def _send(self, address: Address, body: Body, md5: str | None) -> Response:
        headers = {} if md5 is None else {"Content-MD5": md5}
        if not address.url.startswith("/"):
            return self._transport.send("PUT", address.url, headers=headers, body=body)
        return self._authorized(
            lambda token: self._transport.send("PUT", address.url, token=token, headers=headers, body=body)
        )

    @staticmethod
    def _found(response: Response) -> Response:
        if response.status == 404:
            response.close()
            raise UploadLost
        return response


def content_md5(body: Body) -> str:
    """Return the MD5 of `body` in Base64 (RFC 1864), by which a store finds out what the link has changed."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in body:
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _path(upload: Upload) -> str:
    return f"/uploads/{quote(upload.id, safe='')}"


def _started(document: dict[str, Any]) -> Upload:
    match document:
        case {"upload": str(upload), "part_size": largest} if upload and is_size(largest) and largest:
            smallest = document.get("min_part_size", largest)
            if is_size(smallest) and 0 < smallest <= largest:
                return Upload(upload, smallest, largest)
    raise ApiProtocol("The resource API started an upload without a usable upload and part_size.")


def _listed(entry: object) -> tuple[int, StoredPart]:
    match entry:
        case {"number": number, "size": size, "etag": str(etag)} if is_integer(number) and is_size(size):
            return number, StoredPart(size, etag)
    raise ApiProtocol("The resource API sent a list with something that is not a part of an upload.")


def _addressed(entry: object) -> tuple[int, Address]:
    match entry:
        case {"number": number, "url": str(url), "headers": list(names)} if is_integer(number) and url:
            wanted = {str(name).lower() for name in names}
            if wanted <= SENT_HEADERS:
                return number, Address(url, "content-md5" in wanted)
    raise ApiProtocol("The resource API sent something that is not the address of a part.")
