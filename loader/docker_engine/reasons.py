"""Why the engine was not reached or refused: one line from an exception or a response. No calls to the engine."""

from __future__ import annotations

import html
import json
import re
import ssl
from collections.abc import Iterator
from http.client import BadStatusLine, RemoteDisconnected
from typing import Any

REASON_MAX_SIZE = 500
# Statuses by which a proxy or an authorization plugin forbids a request, and by which a proxy misses the engine.
FORBIDDEN = frozenset({401, 403, 405, 407})
UNREACHED = frozenset({502, 503, 504})
# What servers that expect TLS respond to plain HTTP.
PLAIN_HTTP_TO_TLS = 400
NOT_FOUND = 404
# What Docker 26.1 says of an image in the containerd store whose manifest or configuration is gone (status 500).
BLOB_LOST = "code = NotFound desc = blob sha256:"
# What containerd says if it removes what an ended load has left, just when the next load builds on it.
SNAPSHOT_LOST = re.compile(r"snapshot \S+ does not exist")
# What an engine responds if a client speaks a version of the API that it does not have (status 400).
VERSION_REFUSED = re.compile(r"client version [\d.]+ is too (old|new)")
NO_ROOM = ("no space left on device", "disk quota exceeded")

RIGHTS_HINT = "Give the user of the loader the right to use that socket, often by the group `docker`, and try again."
TLS_HINT = (
    "Check whether the engine speaks TLS at that address, and correct DOCKER_HOST, DOCKER_TLS_VERIFY or the "
    "certificates in DOCKER_CERT_PATH."
)
SETTINGS_HINT = (
    "Correct DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH or DOCKER_CONFIG, whichever the error names, and restart "
    "the loader."
)
FORBIDDEN_HINT = (
    "Let the proxy or the authorization plugin of the engine permit this request, or set DOCKER_HOST to the engine "
    "itself; docs/operations.md lists the requests."
)
REQUEST_HINT = "Read the log of the Docker engine."
LOST_HINT = "Check whether the Docker engine still runs and whether its disk is full, and try again."


def one_line(text: object, limit: int = REASON_MAX_SIZE) -> str:
    """Return `text` as one line of at most `limit` printable characters, without a full stop at its end."""
    line = "".join(each if each.isprintable() else " " for each in str(text))
    line = " ".join(line.split()).rstrip(". ")
    return line if len(line) <= limit else f"{line[: limit - 4].rstrip()} ..."


def system_reason(exc: BaseException) -> str:
    """Return what the operating system or TLS says in `exc` or in what it wraps; empty if neither says anything."""
    return next(filter(None, map(_said_by_system, _causes(exc))), "")


def last_reason(exc: BaseException) -> str:
    """Return the text of the innermost exception that `exc` wraps."""
    *_, innermost = _causes(exc)
    return one_line(innermost)


def timed_out(exc: BaseException) -> bool:
    """Return whether `exc` is a timeout, or wraps one."""
    return any(isinstance(cause, TimeoutError) for cause in _causes(exc))


def hint_for(exc: BaseException) -> str | None:
    """Return what to do about an engine that was not reached; None if the reason says nothing special."""
    causes = list(_causes(exc))
    if any(isinstance(cause, PermissionError) for cause in causes):
        return RIGHTS_HINT
    # An engine that expects TLS responds to plain HTTP with the bytes of an alert.
    if any(isinstance(cause, ssl.SSLError) or _is_no_http(cause) for cause in causes):
        return TLS_HINT
    if any(isinstance(cause, ValueError) and not isinstance(cause, json.JSONDecodeError) for cause in causes):
        return SETTINGS_HINT
    return None


def is_full(text: str) -> bool:
    """Return whether an engine says by `text` that its disk is full."""
    return any(sign in text.lower() for sign in NO_ROOM)


def is_version_refused(text: str) -> bool:
    """Return whether an engine says by `text` that it does not speak the version of the API that it was asked in."""
    return VERSION_REFUSED.match(text) is not None


def is_blob_lost(text: str) -> bool:
    """Return whether an engine says by `text` that its store lacks the manifest or the configuration of an image."""
    return BLOB_LOST in text


def is_snapshot_lost(text: str) -> bool:
    """Return whether an engine says by `text` that unpacked layers went while it put others on top of them."""
    return SNAPSHOT_LOST.search(text) is not None


def error_in(message: dict[str, Any]) -> object:
    """Return what a message within a response reports as an error; nothing if it reports none.

    The engine responds 200 before it reads a tar or an image, and fails afterwards.
    """
    detail = message.get("errorDetail")
    said = detail.get("message") if isinstance(detail, dict) else None
    # Docker 27.3 to 29 with the containerd store report a failed unpack as if it were an ordinary line.
    line = str(message.get("stream") or "")
    return said or message.get("error") or message.get("message") or (line if line.startswith("Error") else None)


def message_of(response: Any) -> str | None:
    """Return what an engine says in a response that is no success; None if the response is not an engine's.

    Engines respond with JSON, a proxy in front of them with HTML or text.
    """
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) and message.strip() else None


def status_of(response: Any) -> str:
    """Return the status of a response that is not an engine's, with its title or its text: `403 Forbidden`."""
    status, body = one_line(f"{response.status_code} {response.reason or ''}"), response.text or ""
    title = re.search(r"<title[^>]*>([^<]*)</title", body, re.IGNORECASE)
    text = html.unescape(title[1]) if title is not None else "" if body.lstrip().startswith("<") else body
    text = one_line(text)
    if not text or text in status:
        return status
    return text if text.startswith(str(response.status_code)) else one_line(f"{status} {text}")


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc` and all that it wraps, as the SDK and its HTTP library wrap their causes, outermost first."""
    seen: set[int] = set()
    waiting: list[Any] = [exc]
    for each in waiting:
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__]


def _said_by_system(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return one_line(f"its certificate could not be verified: {exc.verify_message}")
    if isinstance(exc, ssl.SSLError):
        said = re.sub(r"\(_ssl\.c:\d+\)", "", exc.reason or exc.strerror or str(exc))
        return one_line(f"TLS failed: {said.replace('_', ' ').lower()}")
    if isinstance(exc, RemoteDisconnected):
        return "it closed the connection without a response"
    if _is_no_http(exc):
        return "its response is not HTTP"
    if isinstance(exc, json.JSONDecodeError):
        return "its response is not JSON"
    if isinstance(exc, OSError) and exc.strerror:
        return one_line(f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror)
    return "no response in time" if isinstance(exc, TimeoutError) else ""


def _is_no_http(exc: BaseException) -> bool:
    return isinstance(exc, BadStatusLine) and not isinstance(exc, RemoteDisconnected)
