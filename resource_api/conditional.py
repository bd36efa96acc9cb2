"""Responses with an object, or with the part of it that a request asks for (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Iterable

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed
from werkzeug.http import parse_range_header
from werkzeug.wsgi import FileWrapper, wrap_file

from resource_api.storage.interface import OpenResource

# Reads of 1 MiB are about three times as fast as reads of 64 KiB, because gunicorn copies its buffer at every read.
READ_BYTES = 1 << 20
# More digits than any size has; Python refuses to parse thousands of them.
_SUFFIX_RANGE = re.compile(r"bytes[ \t]*=[ \t]*-[ \t]*([0-9]{1,100})[ \t]*", re.IGNORECASE)


def conditional_response(resource: OpenResource) -> Response:
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
