"""Who did what: one audit line for each request, written when its response has ended.

A line has the fields of `AuditRecord` and no others, so it never has a password, a token or a fragment. `user` and
`role` are those of the login. `device` and `release` are what the client claims in its headers, which proves nothing.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

from flask import Response, g, request

from resource_api.client_address import ClientAddresses
from resource_api.problems import name_of
from resource_api.transfers import CountedFile, CountedInput, CountedPieces

# Probes come every few seconds, and say nothing about anybody.
UNAUDITED_PATHS = frozenset({"/health", "/metrics"})
# By the name of the endpoint. An endpoint that is not here is the event of its own name.
EVENTS = {
    "key_fragment": "fragment",
    "list_resources": "list",
    "write_resource": "upload",
    "delete_resource": "deletion",
    "create_upload": "upload_start",
    "show_upload": "upload_look",
    "part_addresses": "upload_look",
    "put_part": "upload_part",
    "complete_upload": "upload",
    "abort_upload": "upload_abort",
}
# Events whose bytes are those that came.
RECEIVING = frozenset({"upload", "upload_part"})
# What the read of an object is called, by the end of its name.
READS = {".small": "small_part", ".big": "big_part", ".head": "head", ".blob": "blob"}
# More than any name of an object has.
MAX_CHARACTERS = 1_100
_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RECORD = "resource_api.audit"

logger = logging.getLogger("resource_api.audit")


@dataclass
class AuditRecord:
    """The facts of one request.

    `outcome` is done, refused (4xx), failed (5xx) or cut (fewer bytes came or went than were announced). `bytes` counts
    the body that was sent, and of an upload what was received. `check` names a key fragment.
    """

    request_id: str
    client: str
    device: str | None
    release: str | None
    event: str = "other"
    outcome: str = "failed"
    status: int = 500
    code: str | None = None
    reason: str | None = None
    user: str | None = None
    role: str | None = None
    object: str | None = None
    check: str | None = None
    bytes: int = 0
    seconds: float = 0.0


class Audited:
    """WSGI middleware that writes the audit line of each request, and hands it to `observe`.

    It counts the bytes that the kernel has taken: what the client has read of them nobody can know.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        addresses: ClientAddresses,
        observe: Callable[[AuditRecord], None],
    ) -> None:
        self._app = app
        self._addresses = addresses
        self._observe = observe

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in UNAUDITED_PATHS:
            return self._app(environ, start_response)
        started, received = time.monotonic(), CountedInput(environ["wsgi.input"])
        wrapper: Any = environ.get("wsgi.file_wrapper")
        files: list[CountedFile] = []
        record = AuditRecord(
            request_id=_sane(environ.get("HTTP_X_REQUEST_ID")) or uuid.uuid4().hex,
            client=self._addresses.client_of(environ),
            device=_sane(environ.get("HTTP_AZAION_DEVICE")),
            release=_sane(environ.get("HTTP_AZAION_RELEASE")),
        )
        facts: dict[str, int] = {}

        def end(sent: int) -> None:
            record.bytes = received.count if record.event in RECEIVING else sent
            record.seconds = round(time.monotonic() - started, 3)
            if _is_cut(record.status, sent, facts.get("announced", 0)) or _is_broken(record.status, received, environ):
                record.outcome = "cut"
            _write(record)
            self._observe(record)

        def wrapped(file: Any, size: int = 1 << 20) -> Any:
            files.append(CountedFile(file, lambda sent: end(sent) if "is_file" in facts else None))
            return wrapper(files[-1], size)

        # A copy, because the server compares the body with the wrapper of its own environment.
        inner = {**environ, _RECORD: (record, facts), "wsgi.input": received}
        body = self._app({**inner, "wsgi.file_wrapper": wrapped} if wrapper is not None else inner, start_response)
        # The server sends such a body itself, and closes the file. The response to a HEAD closes it, too, but earlier.
        if files and isinstance(wrapper, type) and isinstance(body, wrapper):
            facts["is_file"] = 1
            return body
        return CountedPieces(body, end)


def note_response(response: Response) -> Response:
    """Put what is known about the present request into its audit record; for `Flask.after_request`."""
    record, facts = request.environ.get(_RECORD, (None, {}))
    if record is None:
        return response
    has_body = request.method != "HEAD" and response.status_code not in (204, 304)
    facts["announced"] = (response.content_length or 0) if has_body else 0
    record.status = response.status_code
    record.outcome = _outcome(record.status)
    # A view whose path has no name of an object may put one there.
    record.object = g.get("object") or (request.view_args or {}).get("name")
    if request.endpoint is None:
        record.object = request.path
    record.event = _event(request.endpoint, record.object)
    user = g.get("user")
    record.user, record.role = (user.email, str(user.role)) if user is not None else (None, None)
    record.check = g.get("check")
    if record.status >= HTTPStatus.BAD_REQUEST:
        problem = response.get_json(silent=True) or {}
        record.code = problem.get("code") or name_of(record.status)
        record.reason = g.get("reason") or problem.get("detail")
    return response


def _event(endpoint: str | None, name: str | None) -> str:
    if endpoint == "read_resource":
        return READS.get(PurePosixPath(name or "").suffix, "object")
    return EVENTS.get(endpoint or "", endpoint or "other")


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "done"
    return "refused" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"


def _is_cut(status: int, sent: int, announced: int) -> bool:
    return status < HTTPStatus.BAD_REQUEST and sent < announced


def _is_broken(status: int, received: CountedInput, environ: dict[str, Any]) -> bool:
    """Return whether a request was refused because its body ended early."""
    length = environ.get("CONTENT_LENGTH") or "0"
    announced = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
    is_refused = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT)
    return is_refused and received.ended and received.count < announced


def _sane(claimed: str | None) -> str | None:
    """Return what a header claims if it is short and harmless."""
    return claimed if claimed and _SANE.fullmatch(claimed) else None


def _write(record: AuditRecord) -> None:
    fields = {name: _bounded(value) for name, value in asdict(record).items()}
    level = logging.INFO if record.outcome == "done" else logging.WARNING
    logger.log(level, "%s %s", record.event, record.outcome, extra={"audit": fields})


def _bounded(value: Any) -> Any:
    is_long = isinstance(value, str) and len(value) > MAX_CHARACTERS
    return f"{value[:MAX_CHARACTERS]}..." if is_long else value
