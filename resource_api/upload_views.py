"""The views of resumable uploads."""

import base64
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from flask import Response, g, jsonify, request
from werkzeug.exceptions import BadRequest, LengthRequired

from resource_api.accounts import User
from resource_api.bodies import json_body
from resource_api.storage.interface import Upload, Uploads
from resource_api.storage.upload_rules import PARTS

# 10,000 parts with number and ETag have less.
BODY_BYTES = 1 << 20
BODY_SECONDS = 60
_MD5_BYTES = 16
_ETAG = re.compile(r'"?([0-9a-f]{1,64}(?:-[0-9]{1,5})?)"?')


class Publishers(Protocol):
    """How the views learn who asks, and read what a publisher sends."""

    def require_publisher(self) -> User:
        """Return the user of the request. Raises Unauthorized and NotPublisherError."""

    def pieces_of(self, user: User, size: int) -> Iterator[bytes]:
        """Yield the body of the request; raise Unauthorized if the user was changed meanwhile."""


class UploadViews:
    """The view functions. All raise Unauthorized and NotPublisherError, and what the method of `Uploads` raises."""

    def __init__(self, publishers: Publishers, uploads: Uploads) -> None:
        self._publishers = publishers
        self._uploads = uploads

    def create(self) -> Response:
        """Handle POST /uploads."""
        user = self._publishers.require_publisher()
        match json_body(BODY_BYTES, BODY_SECONDS):
            case {"name": str(name), "size": int(size)} if not isinstance(size, bool):
                g.object = name
                upload = self._uploads.create(name, size, user.email)
            case _:
                raise BadRequest('The body has to be an object with the string "name" and the whole number "size".')
        response = jsonify(_described(upload))
        response.status_code = 201
        return response

    def show(self, upload: str) -> Response:
        """Handle GET /uploads/{upload}."""
        found = self._find(upload)
        return jsonify(**_described(found), parts=[part._asdict() for part in self._uploads.parts(found)])

    def addresses(self, upload: str) -> Response:
        """Handle POST /uploads/{upload}/urls."""
        found = self._find(upload)
        numbers = _list_of_parts()
        if not all(type(number) is int for number in numbers):
            raise BadRequest("The parts have to be whole numbers.")
        return jsonify(urls=[address._asdict() for address in self._uploads.addresses(found, numbers)])

    def put_part(self, upload: str, number: int) -> Response:
        """Handle PUT /uploads/{upload}/parts/{number}. Raises LengthRequired and what `pieces_of` raises, too."""
        user = self._publishers.require_publisher()
        found = self._found(upload, user)
        size = request.content_length
        if size is None:
            raise LengthRequired("A part needs a Content-Length.")
        pieces: Iterable[bytes] = self._publishers.pieces_of(user, size)
        response = Response(content_type="application/octet-stream")
        response.set_etag(self._uploads.put_part(found, number, size, _content_md5(), pieces))
        return response

    def complete(self, upload: str) -> Response:
        """Handle POST /uploads/{upload}/complete."""
        found = self._find(upload)
        parts = [_number_and_etag(part) for part in _list_of_parts()]
        etags = dict(parts)
        if len(etags) < len(parts):
            raise BadRequest("A part must stand in the list once.")
        self._uploads.complete(found, etags)
        return Response(status=204)

    def abort(self, upload: str) -> Response:
        """Handle DELETE /uploads/{upload}."""
        self._uploads.abort(self._find(upload))
        return Response(status=204)

    def _find(self, upload: str) -> Upload:
        return self._found(upload, self._publishers.require_publisher())

    def _found(self, upload: str, user: User) -> Upload:
        found = self._uploads.find(upload, user.email)
        g.object = found.name
        return found


def _described(upload: Upload) -> dict[str, Any]:
    expires = datetime.fromtimestamp(upload.expires, UTC).isoformat().replace("+00:00", "Z")
    return {
        "upload": upload.id,
        "name": upload.name,
        "size": upload.size,
        "part_size": upload.part_size,
        "min_part_size": upload.min_part_size,
        "expires": expires,
    }


def _list_of_parts() -> list[Any]:
    match json_body(BODY_BYTES, BODY_SECONDS):
        case {"parts": list(parts)} if len(parts) <= PARTS:
            return parts
    raise BadRequest(f'The body has to be an object with the list "parts", of at most {PARTS}.')


def _number_and_etag(part: object) -> tuple[int, str]:
    match part:
        case {"number": int(number), "etag": str(etag)} if not isinstance(number, bool):
            if (plain := _ETAG.fullmatch(etag)) is not None:
                return number, plain[1]
    raise BadRequest('Each part has to be an object with the whole number "number" and the string "etag" of its PUT.')


def _content_md5() -> bytes | None:
    """Return the MD5 in the header Content-MD5 (RFC 1864), None if there is no such header. Raises BadRequest."""
    header = request.headers.get("Content-MD5")
    if header is None:
        return None
    try:
        md5 = base64.b64decode(header, validate=True)
    except ValueError:
        md5 = b""
    if len(md5) != _MD5_BYTES:
        raise BadRequest("A Content-MD5 is the MD5 of the part in Base64.")
    return md5
