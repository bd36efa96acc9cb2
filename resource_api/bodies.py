"""Bodies of requests: JSON within limits, and the bytes of an upload in pieces."""

from collections.abc import Iterator

from flask import request
from werkzeug.exceptions import BadRequest, RequestTimeout

from resource_api.conditional import READ_BYTES
from resource_api.connection import limit_reading


def json_body(max_bytes: int, seconds: float) -> object:
    """Return the JSON of the request, which may have at most `max_bytes` and take `seconds` in total.

    Raises BadRequest, UnsupportedMediaType and RequestEntityTooLarge.
    """
    request.max_content_length = max_bytes
    limit_reading(seconds)
    try:
        return request.get_json()
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error


def body_pieces(size: int) -> Iterator[bytes]:
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
