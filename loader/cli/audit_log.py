"""Reads audit lines from the log of a loader.

A log is read as untrusted: lines that are no audit lines are skipped, and no line is longer than MAX_LINE_BYTES.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

MAX_LINE_BYTES = 64 << 10
LOGGER = "loader.audit"


@dataclass(frozen=True)
class AuditLine:
    """The moment of an audit line in UTC, and all of its fields as the log has them."""

    when: datetime
    fields: dict[str, Any]


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a log file; one whose name ends in `.gz` is unpacked. Raises OSError."""
    return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def audit_lines(log: BinaryIO) -> Iterator[AuditLine]:
    """Yield the audit lines of an open log. Raises OSError, EOFError and zlib.error for a damaged compressed file."""
    for text in _whole_lines(log):
        line = _parsed(text)
        if line is not None:
            yield line


def _whole_lines(log: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of at most MAX_LINE_BYTES."""
    is_rest = False
    while text := log.readline(MAX_LINE_BYTES):
        is_end = text.endswith(b"\n")
        if not is_rest:
            yield text
        is_rest = not is_end


def _parsed(text: bytes) -> AuditLine | None:
    """Return the audit line in `text`, which may begin with what a collector of logs has put before it."""
    try:
        fields = json.loads(text[max(text.find(b"{"), 0) :])
        if fields["logger"] != LOGGER or not isinstance(fields["event"], str):
            return None
        when = datetime.fromisoformat(fields["timestamp"])
        # A moment near the first or the last year has none in UTC.
        return AuditLine(when.astimezone(UTC), fields) if when.tzinfo is not None else None
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
