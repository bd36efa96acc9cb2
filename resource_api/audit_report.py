"""Reads audit lines from log files, and answers who asked for fragments, which devices were seen, and what failed.

A log file is read as untrusted: lines that are no audit lines are skipped, and no line is longer than MAX_LINE_BYTES.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

MAX_LINE_BYTES = 64 << 10
_TEXTS = ("event", "outcome", "code", "reason", "user", "role", "device", "release", "client", "object", "check")


@dataclass(frozen=True)
class AuditLine:
    """The fields of an audit line that answers need. Texts that the line lacks are empty."""

    when: datetime
    event: str
    outcome: str
    code: str
    reason: str
    user: str
    role: str
    device: str
    release: str
    client: str
    object: str
    check: str


@dataclass
class Seen:
    """A device by its name, or an account whose client tells no name."""

    device: str
    user: str
    client: str
    event: str
    outcome: str
    last: datetime
    requests: int = 0


@dataclass
class Failure:
    """Requests that did not end as `done`, for one reason."""

    device: str
    user: str
    event: str
    outcome: str
    object: str
    code: str
    reason: str
    first: datetime
    last: datetime
    times: int = 0


@dataclass
class Report:
    """The answers. `fragments` are in the order of the log; the others are the latest last."""

    fragments: list[AuditLine] = field(default_factory=list)
    devices: dict[tuple[str, ...], Seen] = field(default_factory=dict)
    failures: dict[tuple[str, ...], Failure] = field(default_factory=dict)

    def add(self, line: AuditLine) -> None:
        """Take one more line into account."""
        if line.event == "fragment":
            self.fragments.append(line)
        new = Seen(line.device, line.user, line.client, line.event, line.outcome, line.when)
        seen = self.devices.setdefault((line.device, line.user), new)
        seen.requests += 1
        if line.when >= seen.last:
            new.requests = seen.requests
            self.devices[line.device, line.user] = new
        if line.outcome != "done":
            self._add_failure(line)

    def _add_failure(self, line: AuditLine) -> None:
        key = (line.device, line.user, line.event, line.outcome, line.object, line.code, line.reason)
        failure = self.failures.setdefault(key, Failure(*key, line.when, line.when))
        failure.times += 1
        failure.first, failure.last = min(failure.first, line.when), max(failure.last, line.when)


def report(
    lines: Iterable[AuditLine], since: datetime, *, device: str | None = None, user: str | None = None
) -> Report:
    """Return the answers about the lines from `since` on, and only those of `device` and `user` if these are given."""
    answers = Report()
    for line in lines:
        if line.when >= since and device in (None, line.device) and user in (None, line.user):
            answers.add(line)
    answers.fragments.sort(key=lambda line: line.when)
    return answers


def audit_lines(path: Path) -> Iterator[AuditLine]:
    """Yield the audit lines of a log file; one whose name ends in `.gz` is unpacked. Raises OSError and EOFError."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for text in _whole_lines(file):  # type: ignore[arg-type]  # a GzipFile has the methods of a BinaryIO
            line = _parsed(text)
            if line is not None:
                yield line


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of at most MAX_LINE_BYTES."""
    is_rest = False
    while text := file.readline(MAX_LINE_BYTES):
        is_end = text.endswith(b"\n")
        if not is_rest:
            yield text
        is_rest = not is_end


def _parsed(text: bytes) -> AuditLine | None:
    """Return the audit line in `text`, which may begin with what a collector of logs has put before it."""
    try:
        fields = json.loads(text[max(text.find(b"{"), 0) :])
        if fields["logger"] != "resource_api.audit":
            return None
        when = datetime.fromisoformat(fields["timestamp"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return None if when.tzinfo is None else AuditLine(when, *(_text(fields.get(name)) for name in _TEXTS))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
