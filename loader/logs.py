"""Logging: one JSON object a line on stderr, with the id of the request it belongs to.

Every line has `timestamp, level, logger, message, request_id`; an audit line also `event, outcome, code, file, bytes,
seconds`. Secrets are never handed to a logger; as a second lock, what looks like one in a foreign text (an exception
that quotes a URL or a header) is cut out of the finished line.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECRETS = re.compile(r"(?P<url>https?://[^\s?\"'\\]+)\?[^\s\"'\\)]*|(?P<scheme>Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+")

_audit = logging.getLogger("loader.audit")


def sane_request_id(proposed: str | None) -> str:
    """`proposed` if it is harmless in a header and a log line, else a new id."""
    return proposed if proposed and _SANE_ID.fullmatch(proposed) else uuid.uuid4().hex


def current_request_id() -> str | None:
    """The id of the request that this thread works for."""
    return _request_id.get()


def set_request_id(value: str | None) -> None:
    """Let this thread's log lines and calls to the API carry `value` from now on."""
    _request_id.set(value)


@contextmanager
def request_id(value: str | None) -> Iterator[None]:
    """`set_request_id` for the length of a block."""
    token = _request_id.set(value)
    try:
        yield
    finally:
        _request_id.reset(token)


def audit(event: str, outcome: str, *, code: str | None, file: str | None, size: int | None, seconds: float) -> None:
    """The one line that says how a login, load, upload or unlock ended. `size` is in bytes."""
    fields = {
        "event": event,
        "outcome": outcome,
        "code": code,
        "file": file,
        "bytes": size,
        "seconds": round(seconds, 3),
    }
    _audit.info("%s %s", event, outcome, extra=fields)


def config(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`, and for gunicorn, whose own and access lines take the same form."""
    to_stderr = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "loader.logs.JsonLines"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "gunicorn.error": to_stderr,
            "gunicorn.access": to_stderr,
            # At DEBUG these quote request lines with their queries.
            "urllib3": {"level": "INFO"},
            "docker": {"level": "INFO"},
        },
    }


class JsonLines(JsonFormatter):
    """The formatter of `config`."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the fixed fields first, then those given as `extra`."""
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage()
        log_data["request_id"] = _request_id.get()
        super().add_fields(log_data, record, message_dict)
        if record.name == "gunicorn.access" and isinstance(record.args, Mapping):
            log_data |= _access_fields(record.args)

    def format(self, record: logging.LogRecord) -> str:
        """The line, with what looks like a secret cut out."""
        return _SECRETS.sub(_redacted, super().format(record))


def _access_fields(atoms: Mapping[str, Any]) -> dict[str, Any]:
    # %(U)s is the path alone: the request line would bring the query along.
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
