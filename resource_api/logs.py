"""The log: one JSON object per line, on stderr or in the file that RESOURCE_API_LOG names.

Each line has `timestamp` (with the time zone UTC), `level`, `logger` and `message`; an audit line also has the fields
of `audit.AuditRecord`. All of it is ASCII, so no name can start a line of its own or reach a terminal as an escape.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "audit", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def config(file: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig` and gunicorn. `file` is a path, or empty for stderr.

    A program that rotates the file may rename it: the next line makes a new one.
    """
    handler: dict[str, Any] = {"class": "loader.server.log_handler.LogHandler"}
    if file:
        handler = {"class": "logging.handlers.WatchedFileHandler", "filename": file}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "resource_api.logs.JsonFormatter"}},
        "handlers": {"log": {**handler, "formatter": "json"}},
        "root": {"handlers": ["log"], "level": "INFO"},
        "loggers": {
            "gunicorn.error": {"handlers": ["log"], "level": "INFO", "propagate": False},
            "gunicorn.access": {"level": "WARNING"},
            # It warns of damaged responses with the whole URL, which is signed.
            "urllib3": {"level": "ERROR"},
        },
    }
