"""What a response means: a success, a refusal, or something that another server has made or changed on the way."""

from __future__ import annotations

import codecs
import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from loader.api_client.reasons import CODING_HINT, PORTAL_HINT, STORE_HINT, status_hint
from loader.api_client.responses import Response
from loader.crypto.json_header import INTEGER_LIMIT
from loader.errors import ApiError, ApiProtocol, ApiUnreachable, Forbidden

# Request Timeout, Too Early, Too Many Requests: the same request may succeed in a moment.
PASSING_REFUSALS = (408, 425, 429)
# Proxy Authentication Required, Network Authentication Required: neither an API nor a store has a reason for them.
PORTAL_REFUSALS = (407, 511)
# A store refuses a signed address, or has none of its own for this request.
STORE_REFUSALS = (401, 403)
PROBLEM_TYPE = "application/problem+json"
# A problem of the API has some hundred bytes.
PROBLEM_MAX_SIZE = 64 * 1024
PAGE_TYPES = ("text/html", "application/xhtml+xml")
# Random bytes of this number do not read as a text; a shorter page is found out by what it should have been.
TEXT_MIN_SIZE = 16
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
MINIMUM_SERIAL = "Azaion-Minimum-Serial"
# More digits than any serial has.
SERIAL = re.compile(r"[0-9]{1,16}")
BOM = b"\xef\xbb\xbf"


def successful(response: Response, expected: tuple[int, ...]) -> Response:
    """Return `response` if its status is `expected`; otherwise close it and raise an ApiFault."""
    if response.status in expected:
        return response
    if response.status == 403 and not response.was_redirected and _problem_code(response) == Forbidden.code:
        raise Forbidden("The resource API does not permit this to the account that is logged in.")
    response.close()
    status, who = response.status, response.peer if response.was_redirected else "resource API"
    if status in PORTAL_REFUSALS:
        raise _from_between(response, f"status {status}")
    if status < 400:
        raise ApiProtocol(f"The {who} responded with status {status}, which has no meaning here.")
    hint = STORE_HINT if response.was_redirected and status in STORE_REFUSALS else status_hint(status, response.peer)
    raise ApiError(
        f"The {who} responded with status {status}.",
        lasting=400 <= status < 500 and status not in PASSING_REFUSALS,
        retry_after=_retry_after(response),
        hint=hint,
    )


def genuine(response: Response) -> Response:
    """Return a response with random bytes, unless somebody in between has made or changed it; then close it.

    Raises ApiUnreachable, because a captive portal goes away, and one of several servers may compress.
    """
    # An error page of the right server is fine; its body is not used.
    if response.status == 416:
        return response
    _require_plain(response)
    if _kind(response) in PAGE_TYPES or _is_text(response):
        raise _from_between(response, "a text or a web page")
    return response


def is_problem(response: Response) -> bool:
    """Return whether the body is a problem document (RFC 9457), as the resource API sends with its errors."""
    return _kind(response) == PROBLEM_TYPE


def acknowledgement(response: Response) -> Response:
    """Return the response to an upload, unless somebody in between has made it; then close it.

    The right server may say what it likes, but a portal does not say 201 or 204. Raises ApiUnreachable.
    """
    _require_plain(response)
    if response.status == 200 and _is_text(response):
        raise _from_between(response, "a text or a web page")
    return response


def json_object(response: Response, limit: int) -> dict[str, Any]:
    """Return the JSON object in the body and close.

    Raises ApiUnreachable if a portal has responded, and ApiProtocol for everything else that is no JSON object.
    """
    _require_plain(response)
    begins_so = response.peek().removeprefix(BOM).lstrip()[:1] in (b"{", b"[")
    if not begins_so and not _kind(response).endswith("json"):
        raise _from_between(response, "a text or a web page")
    try:
        document = json.loads(response.read_all(limit))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiProtocol("The resource API sent something that is not a JSON object.")
    return document


def content_range(response: Response) -> tuple[int, int | None]:
    """Return the first offset and the size of the whole (RFC 9110, section 14.4)."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        response.close()
        raise ApiProtocol("The resource API sent a part of an object without saying which.")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def minimum_serial(response: Response) -> int:
    """Return the serial below which the API permits no release, 0 if it states none. Raises ApiProtocol."""
    stated = response.headers.get(MINIMUM_SERIAL, "0")
    if not SERIAL.fullmatch(stated) or int(stated) >= INTEGER_LIMIT:
        raise ApiProtocol(f"The resource API stated something as {MINIMUM_SERIAL} that is no serial.")
    return int(stated)


def _problem_code(response: Response) -> object:
    """Return the `code` of the problem in the body (RFC 9457), and close; None if there is none.

    A firewall or a portal refuses with 403 too, but not with a code of the API. Raises ApiUnreachable.
    """
    if not _kind(response).endswith("json"):
        return None
    try:
        document = json.loads(response.read_all(PROBLEM_MAX_SIZE))
    except (ValueError, RecursionError, ApiProtocol):
        return None
    return document.get("code") if isinstance(document, dict) else None


def _retry_after(response: Response) -> float | None:
    """Return the seconds that a 429 or 503 asks to wait: a number, or until a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if response.status not in (429, 503) or not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        # Count from the server's own clock if it tells it, because the device's may be wrong.
        told = response.headers.get("Date")
        now = parsedate_to_datetime(told).timestamp() if told else time.time()
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _kind(response: Response) -> str:
    """Return the media type of the body in lower case; empty if the response does not say."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _require_plain(response: Response) -> None:
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity"):
        response.close()
        raise ApiUnreachable(
            f"The {response.peer}, or a server before it, compressed its response, although the loader refuses that.",
            hint=CODING_HINT,
        )


def _is_text(response: Response) -> bool:
    """Return whether the body may be a text, by its type, and is words or markup.

    Keys, ciphertext and its headers are neither.
    """
    kind = _kind(response)
    if kind and not kind.startswith("text/"):
        return False
    start = response.peek()
    if len(start) < TEXT_MIN_SIZE:
        return False
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return CONTROL_CHARACTER.search(text) is None and (" " in text or "<" in text)


def _from_between(response: Response, how: str) -> ApiUnreachable:
    response.close()
    return ApiUnreachable(
        f"Something between here and the {response.peer} responded in its place: {how}.",
        hint=response.peer.fill(PORTAL_HINT),
    )
