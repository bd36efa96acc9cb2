"""The views: log in, get the key fragment, read and write objects."""

import re
from collections.abc import Iterable, Iterator

from flask import Response, g, jsonify, request
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    LengthRequired,
    NotFound,
    PreconditionFailed,
    RequestTimeout,
    Unauthorized,
)
from werkzeug.http import parse_range_header
from werkzeug.wsgi import FileWrapper, wrap_file

from resource_api.accounts import Authenticator
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from resource_api.problems import limit_reading
from resource_api.store import OpenResource, ResourceStore

LOGIN_BYTES = 16 << 10
# For the whole body, because a byte now and then must not hold a thread for ever.
LOGIN_SECONDS = 10
# Reads of 1 MiB are about three times as fast as reads of 64 KiB, because gunicorn copies its buffer at every read.
READ_BYTES = 1 << 20
_CHECK = re.compile(r"[0-9a-f]{16}")
# More digits than any size has; Python refuses to parse thousands of them.
_SUFFIX_RANGE = re.compile(r"bytes[ \t]*=[ \t]*-[ \t]*([0-9]{1,100})[ \t]*", re.IGNORECASE)


class Views:
    """The view functions, and the objects that they use."""

    def __init__(self, data: DataDirectory, authenticator: Authenticator, store: ResourceStore) -> None:
        self._fragments = Fragments(data)
        # Read the file once, because an operator must see at the start, not at the first unlock, that it is damaged.
        self._fragments.all()
        self._authenticator = authenticator
        self._store = store

    def login(self) -> Response:
        """Handle POST /login. Raises BadRequest, UnsupportedMediaType, RequestEntityTooLarge or Unauthorized."""
        email, password = _credentials()
        token = self._authenticator.login(email, password)
        if token is None:
            raise Unauthorized("The e-mail address or the password is wrong.")
        g.user = email
        return _without_caching(jsonify(token=token))

    def key_fragment(self) -> Response:
        """Handle GET /binary-split/key-fragment, the newest or the one that `check` names.

        Raises Unauthorized, BadRequest or NotFound.
        """
        self._require_token()
        check = request.args.get("check")
        if check is not None and not _CHECK.fullmatch(check):
            raise BadRequest("The check of a key fragment has 16 hexadecimal digits in lower case.")
        fragment = self._fragments.find(check)
        if fragment is None:
            raise NotFound("This server has no such key fragment.")
        return _without_caching(Response(fragment, content_type="application/octet-stream"))

    def read_resource(self, name: str) -> Response:
        """Handle GET and HEAD /resources/{name}, with ranges and conditions.

        Raises Unauthorized, RequestedRangeNotSatisfiable, PreconditionFailed, or an error of `ResourceStore.open`.
        """
        self._require_token()
        resource = self._store.open(name)
        try:
            return _conditional_response(resource)
        except HTTPException:
            resource.file.close()
            raise

    def write_resource(self, name: str) -> Response:
        """Handle PUT /resources/{name}.

        Raises Unauthorized, LengthRequired, BadRequest, RequestTimeout, or an error of `ResourceStore.put`.
        """
        self._require_token()
        size = request.content_length
        if size is None:
            raise LengthRequired("An upload needs a Content-Length.")
        if "Content-Range" in request.headers:
            raise BadRequest("Objects are uploaded whole, not in ranges.")
        is_new = self._store.put(name, size, _body_pieces(size))
        return Response(status=201 if is_new else 204)

    def _require_token(self) -> None:
        """Set `g.user` to the user of the request's token. Raises Unauthorized."""
        authorization = request.authorization
        if authorization is None or authorization.type != "bearer" or not authorization.token:
            raise Unauthorized("This needs a bearer token from /login.")
        user = self._authenticator.user_of(authorization.token)
        if user is None:
            raise Unauthorized("The token is not valid, or no longer.")
        g.user = user


def _credentials() -> tuple[str, str]:
    """Return the e-mail address and the password of a login body.

    Raises BadRequest, UnsupportedMediaType, or RequestEntityTooLarge if the body exceeds LOGIN_BYTES.
    """
    request.max_content_length = LOGIN_BYTES
    limit_reading(LOGIN_SECONDS)
    try:
        body = request.get_json()
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error
    match body:
        case {"email": str(email), "password": str(password)} if _is_text(email) and _is_text(password):
            return email, password
    raise BadRequest('The body has to be an object with the strings "email" and "password".')


def _is_text(value: str) -> bool:
    """Return whether UTF-8 can encode `value`; it cannot encode lone surrogates, which JSON can contain."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _conditional_response(resource: OpenResource) -> Response:
    """Return the response 200, 206 or 304 (RFC 9110, sections 13 and 14).

    It does not use Flask's `send_file`, which reads the length of a path before it opens the file: a PUT in between
    would combine the old length and ETag with the new bytes. It sends no Last-Modified, because two PUTs within one
    second would have the same. Raises RequestedRangeNotSatisfiable or PreconditionFailed.
    """
    environ = request.environ | {"HTTP_RANGE": _with_suffix_within(request.headers.get("Range", ""), resource.size)}
    wanted = parse_range_header(environ["HTTP_RANGE"])
    if wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1:
        # Use Werkzeug's wrapper, because gunicorn's cannot seek and Werkzeug would read everything before the range.
        body: Iterable[bytes] = FileWrapper(resource.file, READ_BYTES)
    else:
        # Hide other ranges from Werkzeug, because it responds with 416 to units that must be ignored (RFC 9110, 14.2).
        environ = {name: value for name, value in environ.items() if name != "HTTP_RANGE"}
        body = wrap_file(environ, resource.file, READ_BYTES)
    response = Response(body, content_type="application/octet-stream", direct_passthrough=True)
    response.content_length = resource.size
    response.cache_control.no_cache = True
    response.set_etag(resource.etag)
    response.make_conditional(environ, accept_ranges=True, complete_length=resource.size)
    if response.status_code == PreconditionFailed.code:
        raise PreconditionFailed("The object is not the one that If-Match names.")
    return response


def _with_suffix_within(wanted: str, size: int) -> str:
    """Return the Range header `wanted` for an object of `size` bytes, in a form that Werkzeug understands correctly.

    `bytes=-N` means the last N bytes, or the whole object if it is shorter; N = 0 has no bytes (RFC 9110, 14.1.2).
    Werkzeug would refuse a longer suffix, and take 0 for the whole object.
    """
    suffix = _SUFFIX_RANGE.fullmatch(wanted)
    if suffix is None:
        return wanted
    return f"bytes={size - min(int(suffix[1]), size)}-"


def _body_pieces(size: int) -> Iterator[bytes]:
    """Yield the request body in pieces. Raises BadRequest if it is shorter than `size`, RequestTimeout if it stalls.

    The function counts the bytes, because gunicorn ends a truncated body as if it were complete.
    """
    missing = size
    while missing:
        try:
            piece = request.stream.read(min(missing, READ_BYTES))
        except TimeoutError as error:
            raise RequestTimeout("The upload stalled.") from error
        except OSError as error:
            raise BadRequest("The upload was cut.") from error
        if not piece:
            raise BadRequest(f"The upload was cut: {missing} of {size} bytes are missing.")
        missing -= len(piece)
        yield piece


def _without_caching(response: Response) -> Response:
    """Return `response` with a header that forbids caches to store it, because it contains a secret."""
    response.cache_control.no_store = True
    return response
