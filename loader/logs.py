"""Logging: one JSON object per line on stderr, with the id of the request that the line belongs to.

Every line has `timestamp, level, logger, message, request_id`; an audit line also has `event, outcome, code, reason,
file, bytes, seconds`. The loader passes no secret to a logger. As a second protection the formatter cuts text that
looks like a secret out of the finished line, because an exception of a library may quote a URL or a header.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from loader.errors import LoaderError

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECRETS = re.compile(r"(?P<url>https?://[^\s?\"'\\]+)\?[^\s\"'\\)]*|(?P<scheme>Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+")

_audit = logging.getLogger("loader.audit")


def sane_request_id(proposed: str | None) -> str:
    """Return `proposed` if it is harmless in a header and in a log line, otherwise a new id."""
    return proposed if proposed and _SANE_ID.fullmatch(proposed) else uuid.uuid4().hex


def current_request_id() -> str | None:
    """Return the id of the request that this thread works for."""
    return _request_id.get()


def set_request_id(value: str | None) -> None:
    """Set the id that this thread's log lines and requests to the API carry from now on."""
    _request_id.set(value)


@contextmanager
def request_id(value: str | None) -> Iterator[None]:
    """Set the id as `set_request_id` does, for the length of a `with` block."""
    token = _request_id.set(value)
    try:
        yield
    finally:
        _request_id.reset(token)


def audit(
    event: str,
    outcome: str,
    *,
    code: str | None,
    reason: str | None,
    file: str | None,
    size: int | None,
    seconds: float,
    allow_older: str | None = None,
) -> None:
    """Write the one line that says how a login, lock, load, upload or unlock ended. `size` is in bytes.

    `allow_older` is the digest of the head that the caller of an unlock has permitted, though it is older.

    A failure is a warning with the `code` and the sentence of its error, which is the `reason`; an unexpected exception
    has no sentence, because another line has its traceback.
    """
    fields = {
        "event": event,
        "outcome": outcome,
        "code": code,
        "reason": reason,
        "file": file,
        "bytes": size,
        "seconds": round(seconds, 3),
    }
    if allow_older is not None:
        fields["allow_older"] = allow_older
    level = logging.INFO if code is None else logging.WARNING
    _audit.log(level, "%s %s", event, outcome, extra=fields)


@dataclass
class Audit:
    """The facts of one audit line, collected while a request runs.

    `size` is the number of plaintext bytes sent or received so far.
    """

    event: str
    file: str | None = None
    size: int | None = None
    started: float = field(default_factory=time.monotonic)

    def write(self, outcome: str, code: str | None = None, reason: str | None = None) -> None:
        """Write the line."""
        seconds = time.monotonic() - self.started
        audit(self.event, outcome, code=code, reason=reason, file=self.file, size=self.size, seconds=seconds)


@contextmanager
def failures_audited(event: str, file: str | None = None) -> Iterator[Audit]:
    """Write the audit line if the `with` block raises; after a success the caller writes it."""
    record = Audit(event, file)
    try:
        yield record
    except LoaderError as exc:
        record.write("failed", exc.code, str(exc))
        raise
    except Exception:
        record.write("failed", LoaderError.code)
        raise


def config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig` and for gunicorn, whose lines then look the same.

    Audit lines are written at every level.
    """
    to_stderr = {"handlers": ["stderr"], "level": level, "propagate": False}
    # Probes come every few seconds, and would be most of the log.
    filters = [] if level == "DEBUG" else ["probes"]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "loader.logs.JsonLines"}},
        "filters": {"probes": {"()": "loader.logs.WithoutGoodProbes"}},
        "handlers": {"stderr": {"class": "loader.server.log_handler.LogHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "gunicorn.error": to_stderr,
            "gunicorn.access": {**to_stderr, "filters": filters},
            _audit.name: {**to_stderr, "level": "INFO"},
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
