"""Logging: one JSON object per line on stderr, with the id of the request that the line belongs to.

Every line has `timestamp, level, logger, message, request_id`; an audit line also has `device, event, outcome, code,
reason, user, client, file, version, bytes, seconds`. The loader passes no secret to a logger. As a second protection
the formatter cuts text that looks like a secret out of the finished line, because an exception of a library may quote a
URL or a header.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from loader.errors import LoaderError

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_client: ContextVar[str | None] = ContextVar("client", default=None)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# An @ alone proves nothing: it is in many passwords, such as P@ssw0rd.
_ADDRESS = re.compile(r"[^@\s]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_SECRETS = re.compile(r"(?P<url>https?://[^\s?\"'\\]+)\?[^\s\"'\\)]*|(?P<scheme>Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+")

_audit = logging.getLogger("loader.audit")
_observer: Callable[[Mapping[str, Any]], None] | None = None


def observe_audit(observer: Callable[[Mapping[str, Any]], None]) -> None:
    """Call `observer`, and no earlier one, with the fields of each audit line from now on, except that of the start."""
    global _observer
    _observer = observer


def sane_request_id(proposed: str | None) -> str:
    """Return `proposed` if it is harmless in a header and in a log line, otherwise a new id."""
    return proposed if proposed and _SANE_ID.fullmatch(proposed) else uuid.uuid4().hex


def current_request_id() -> str | None:
    """Return the id of the request that this thread works for."""
    return _request_id.get()


def set_request_id(value: str | None) -> None:
    """Set the id that this thread's log lines and requests to the API carry from now on."""
    _request_id.set(value)


def set_client(value: str | None) -> None:
    """Set the client that this thread's audit lines name from now on."""
    _client.set(value)


@dataclass(frozen=True)
class Origin:
    """The request that a thread works for, to be handed to another thread: its id and its client."""

    request_id: str | None
    client: str | None

    @classmethod
    def current(cls) -> Origin:
        """Return that of this thread."""
        return cls(_request_id.get(), _client.get())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let this thread work for it, for the length of a `with` block."""
        token = _client.set(self.client)
        try:
            with request_id(self.request_id):
                yield
        finally:
            _client.reset(token)


@contextmanager
def request_id(value: str | None) -> Iterator[None]:
    """Set the id as `set_request_id` does, for the length of a `with` block."""
    token = _request_id.set(value)
    try:
        yield
    finally:
        _request_id.reset(token)


@dataclass
class Audit:
    """The facts of one audit line: how a login, lock, load, upload, fetch, unlock or way back ended.

    `size` is the number of bytes so far, `version` that of a release, `user` the account of the resource API.
    `allow_older` is the digest of the head that the caller of an unlock has permitted, though it is older.
    """

    event: str
    file: str | None = None
    size: int | None = None
    version: str | None = None
    user: str | None = None
    allow_older: str | None = None
    started: float = field(default_factory=time.monotonic)

    def write(self, outcome: str, code: str | None = None, reason: str | None = None) -> dict[str, Any]:
        """Write the line, and return its fields.

        A failure is a warning with the `code` and the sentence of its error, which is the `reason`; an unexpected
        exception has no sentence, because another line has its traceback.
        """
        fields = {
            "event": self.event,
            "outcome": outcome,
            "code": code,
            "reason": reason,
            "user": self.user,
            "client": _client.get(),
            "file": self.file,
            "version": self.version,
            "bytes": self.size,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        if self.allow_older is not None:
            fields["allow_older"] = self.allow_older
        level = logging.INFO if code is None else logging.WARNING
        _audit.log(level, "%s %s", self.event, outcome, extra=fields)
        if _observer is not None:
            _observer(fields)
        return {**fields, "request_id": _request_id.get()}


def told_user(email: str) -> str | None:
    """Return what a line may tell of the account before the API has accepted it.

    None if it does not look like an address with a domain, because people type passwords into the wrong field.
    """
    return email if _ADDRESS.fullmatch(email) else None


@contextmanager
def failures_audited(event: str, file: str | None = None, user: str | None = None) -> Iterator[Audit]:
    """Write the audit line if the `with` block raises; after a success the caller writes it."""
    record = Audit(event, file, user=user)
    try:
        yield record
    except LoaderError as exc:
        record.write("failed", exc.code, str(exc))
        raise
    except Exception:
        record.write("failed", LoaderError.code)
        raise


def start_line(version: str, settings: Mapping[str, str]) -> None:
    """Write the line that says which loader has started, with which settings; none of them may be a secret."""
    fields = {"event": "start", "version": version, "settings": dict(settings)}
    _audit.info("azaion-loader %s starts", version, extra=fields)


def config(level: str, device: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig` and for gunicorn, whose lines then look the same.

    Audit lines are written at every level, and name the `device`.
    """
    to_stderr = {"handlers": ["stderr"], "level": level, "propagate": False}
    # Probes come every few seconds, and would be most of the log.
    filters = [] if level == "DEBUG" else ["probes"]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "loader.logs.JsonLines"}},
        "filters": {
            "probes": {"()": "loader.logs.WithoutGoodProbes"},
            "device": {"()": "loader.logs.OfDevice", "device": device},
        },
        "handlers": {"stderr": {"class": "loader.server.log_handler.LogHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "gunicorn.error": to_stderr,
            "gunicorn.access": {**to_stderr, "filters": filters},
            _audit.name: {**to_stderr, "level": "INFO", "filters": ["device"]},
            # These libraries stay at INFO, because at DEBUG they log request lines with their queries.
            "urllib3": {"level": "INFO"},
            "docker": {"level": "INFO"},
        },
    }


class JsonLines(JsonFormatter):
    """The formatter that `config` names."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Add the fixed fields first, then the fields of `extra`."""
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage()
        log_data["request_id"] = _request_id.get()
        super().add_fields(log_data, record, message_dict)
        if record.name == "gunicorn.access" and isinstance(record.args, Mapping):
            log_data |= _access_fields(record.args)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without text that looks like a secret."""
        return _SECRETS.sub(_redacted, super().format(record))


class OfDevice(logging.Filter):
    """Adds the name of the device to a line; `config` names it."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True, because every line is kept."""
        record.device = self._device
        return True


class WithoutGoodProbes(logging.Filter):
    """Drops the access line of a `/health` that succeeded; `config` names it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to keep the line."""
        atoms = record.args
        return not (isinstance(atoms, Mapping) and atoms["U"] == "/health" and str(atoms["s"]).startswith("2"))


def _access_fields(atoms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an access line. %(U)s is the path; the request line would include the query."""
    return {
        "message": f"{atoms['m']} {atoms['U']} {atoms['s']}",
        "method": atoms["m"],
        "path": atoms["U"],
        "status": atoms["s"],
        "bytes": atoms["B"],
        "seconds": atoms["L"],
        "remote": atoms["h"],
    }


def _redacted(match: re.Match[str]) -> str:
    return f"{match['url']}?[redacted]" if match["url"] else f"{match['scheme']} [redacted]"
