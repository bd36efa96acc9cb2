"""The last login, unlock and fetch of this device, in a small file that survives a restart. It holds no secrets."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loader.errors import CallerError, LoaderError
from loader.files import read_small, replacement
from loader.logs import Audit, told_user

log = logging.getLogger(__name__)

NAME = "last-events.json"
EVENTS = ("login", "unlock", "fetch")
# The outcome of one that ended well.
SUCCESS = "ok"
MAX_TEXT = 500
# Three events whose texts are all as long as they may be, with 12 bytes a character as JSON escapes them.
MAX_SIZE = 256 * 1024
# A program that tries again and again must not write to the flash of a device each time.
SAME_SECONDS = 60

_writing = threading.Lock()


@dataclass(frozen=True)
class LastEvent:
    """How one of them ended. `at` is RFC 3339; the others are the fields of its audit line, None if unknown.

    `last_success` is when one ended well last, this one or one before.
    """

    at: str
    outcome: str
    code: str | None = None
    reason: str | None = None
    user: str | None = None
    client: str | None = None
    version: str | None = None
    seconds: float | None = None
    request_id: str | None = None
    last_success: str | None = None

    @classmethod
    def parse(cls, document: Any) -> LastEvent | None:
        """Return what `asdict` has made a document of; None if it is something else.

        Files of older loaders have no `last_success`.
        """
        if not isinstance(document, dict):
            return None
        document = {"last_success": None, **document}
        if document.keys() != {field.name for field in fields(cls)}:
            return None
        seconds, texts = document["seconds"], {name: value for name, value in document.items() if name != "seconds"}
        fine = all(value is None or isinstance(value, str) for value in texts.values()) and isinstance(
            seconds, float | None
        )
        fine = fine and isinstance(document["outcome"], str) and _moment(document["at"]) is not None
        fine = fine and (document["last_success"] is None or _moment(document["last_success"]) is not None)
        return cls(**document) if fine else None

    @property
    def is_success(self) -> bool:
        """Whether it ended well."""
        return self.outcome == SUCCESS

    @property
    def succeeded_at(self) -> str | None:
        """When one ended well last, also if this is an event of an older loader; RFC 3339, None if unknown."""
        return self.at if self.is_success else self.last_success

    def is_like(self, other: LastEvent) -> bool:
        """Return whether both say the same within SAME_SECONDS."""
        apart = {"at", "seconds", "request_id", "last_success"}
        mine, its = asdict(self), asdict(other)
        then, now = _moment(self.at), _moment(other.at)
        near = then is not None and now is not None and abs(now - then) < timedelta(seconds=SAME_SECONDS)
        return near and all(mine[name] == its[name] for name in mine.keys() - apart)


def last_events(directory: Path) -> dict[str, LastEvent | None]:
    """Return the last event of each of EVENTS; None for one of which nothing is known. Never raises."""
    try:
        document = json.loads(read_small(directory / NAME, MAX_SIZE))
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError, RecursionError) as exc:
        log.warning("what happened last on this device cannot be read: %s", exc)
        document = {}
    known = document if isinstance(document, dict) else {}
    return {event: LastEvent.parse(known.get(event)) for event in EVENTS}


def note(directory: Path, line: Mapping[str, Any]) -> None:
    """Remember what an audit line says, whose `event` is one of EVENTS. Never raises: a full disk is a warning."""
    names = ("outcome", "code", "reason", "user", "client", "version", "request_id")
    texts: dict[str, Any] = {name: line[name][:MAX_TEXT] if line[name] is not None else None for name in names}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with _writing:
        events = last_events(directory)
        former = events[line["event"]]
        before = former.succeeded_at if former is not None else None
        success = at if line["outcome"] == SUCCESS else before
        new = LastEvent(at=at, seconds=float(line["seconds"]), last_success=success, **texts)
        if former is not None and former.is_like(new):
            return
        events[line["event"]] = new
        document = {event: asdict(last) for event, last in events.items() if last is not None}
        try:
            with replacement(directory / NAME) as file:
                file.write(json.dumps(document).encode())
        except OSError as exc:
            log.warning("what happened last on this device cannot be written: %s", exc)


@contextmanager
def login_audited(directory: Path, email: str) -> Iterator[None]:
    """Write the audit line of the login that the `with` block makes, and remember it if the API was asked."""
    audit = Audit("login", user=told_user(email))
    try:
        yield
    except LoaderError as exc:
        line = audit.write("failed", exc.code, str(exc))
        if not isinstance(exc, CallerError):
            note(directory, line)
        raise
    except Exception:
        audit.write("failed", LoaderError.code)
        raise
    audit.user = email
    note(directory, audit.write("ok"))


def _moment(text: Any) -> datetime | None:
    """Return the moment with its time zone; None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else None
