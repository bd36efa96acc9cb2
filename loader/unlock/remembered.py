"""What this device remembers of unlocks that were proven: the last release, the one before, and the last one's pace."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from loader.crypto.archive_head import Head, Image, StoredHead
from loader.crypto.json_header import JSON_MAX_SIZE, LENGTH_SIZE
from loader.errors import CorruptCiphertext, LoaderError, StorageError
from loader.files import read_small, remove_unfinished, storage, write_durable
from loader.unlock.room import Work
from loader.unlock_state import STEPS

log = logging.getLogger(__name__)

REMEMBERED_NAME = "unlocked-manifest.json"
# Two heads. A head within JSON has a second byte for each quotation mark.
REMEMBERED_LIMIT = 4 * JSON_MAX_SIZE + 4096
# An unlock of less says nothing about the time for a larger one.
TELLING_SIZE = 16 << 20
# Nothing takes longer in seconds, so that a sum over all bytes of an archive stays finite.
SLOWEST = 1e9


@dataclass(frozen=True)
class Pace:
    """How fast an unlock in `mode` was.

    `login` is in seconds, `prepare` in seconds for a byte of the archive, and `load` for a byte that the engine gets.
    """

    mode: str
    login: float
    prepare: float
    load: float

    @classmethod
    def parse(cls, document: Any) -> Pace | None:
        """Return what `asdict` has made a document of, None if it is something else."""
        try:
            mode, *speeds = (document[field.name] for field in fields(cls))
            fine = isinstance(mode, str) and all(type(speed) is float and 0 <= speed <= SLOWEST for speed in speeds)
            return cls(mode, *speeds) if fine else None
        except (TypeError, KeyError):
            return None

    @classmethod
    def measured(cls, mode: str, work: Work, durations: Mapping[str, float]) -> Pace | None:
        """Return the pace of an unlock from the seconds of its steps; None if it did too little to tell."""
        if work.to_send < TELLING_SIZE:
            return None
        login, key, prepare, load = (durations[step] for step in STEPS)
        return cls(mode, login + key, prepare / work.to_read, load / work.to_send)

    def seconds(self, work: Work) -> float:
        """Return how many seconds an unlock takes that does so much."""
        return self.login + work.to_read * self.prepare + work.to_send * self.load


@dataclass(frozen=True)
class ProvenRelease:
    """A release whose head was authenticated on this device. `raw` is the JSON of its head, byte for byte."""

    raw: bytes
    head: Head

    @classmethod
    def of(cls, stored: StoredHead) -> ProvenRelease:
        """Return the release of an authenticated head."""
        return cls(stored.raw[LENGTH_SIZE:], stored.head)

    @classmethod
    def parse(cls, document: Any) -> ProvenRelease:
        """Return what `document` has made. Raises CorruptCiphertext, and ValueError and the like."""
        raw = _unchanged(document["head"].encode(), document["sha256"])
        head = json.loads(raw)
        return cls(raw, Head.parse(head if isinstance(head, dict) else {}))

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of the release."""
        return self.head.images

    @property
    def title(self) -> str:
        """The release in a sentence, such as `release 1.4 (serial 7)`."""
        return f"release {self.head.release.version} (serial {self.head.release.serial})"

    @property
    def digest(self) -> str:
        """The SHA-256 of the head, in hex, which names exactly this head."""
        return hashlib.sha256(self.raw).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return what `parse` reads."""
        return {"head": self.raw.decode(), "sha256": self.digest}


@dataclass(frozen=True)
class Remembered:
    """The last unlock that was proven, and how fast it was; `pace` is None if nobody knows.

    `previous` is the other release that was ready here before `present`.
    """

    present: ProvenRelease | None = None
    pace: Pace | None = None
    previous: ProvenRelease | None = None

    @classmethod
    def parse(cls, document: Any) -> Remembered:
        """Return what `document` has made. Raises ValueError."""
        try:
            previous = document.get("previous")
            return cls(
                ProvenRelease.parse(document),
                Pace.parse(document.get("pace")),
                ProvenRelease.parse(previous) if previous is not None else None,
            )
        except CorruptCiphertext as exc:
            raise ValueError(str(exc)) from exc
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError("it names no images") from exc

    @classmethod
    def read(cls, directory: Path) -> Remembered:
        """Return what is remembered in `directory`, nothing if the file is absent. Raises StorageError if it is bad."""
        path = directory / REMEMBERED_NAME
        try:
            return cls.parse(json.loads(read_small(path, REMEMBERED_LIMIT)))
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValueError, RecursionError) as exc:
            raise StorageError(f"The remembered images {path} cannot be used: {exc}.") from exc

    @classmethod
    def read_if_sound(cls, directory: Path) -> Remembered:
        """Return what is remembered in `directory`, nothing if the file is absent or, with a warning, if it is bad."""
        try:
            return cls.read(directory)
        except StorageError as exc:
            log.warning("%s", exc)
            return NOTHING

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of the last unlock."""
        return self.present.images if self.present is not None else ()

    def is_head(self, head: StoredHead) -> bool:
        """Return whether exactly this head was authenticated by the last unlock on this device."""
        return self.present is not None and self.present.raw == head.raw[LENGTH_SIZE:]

    def followed_by(self, head: StoredHead, pace: Pace | None) -> Remembered:
        """Return what is remembered after an unlock of `head`. The same release again keeps the previous one."""
        previous = self.previous if self.is_head(head) else self.present
        return Remembered(ProvenRelease.of(head), pace, previous)

    def exchanged(self) -> Remembered:
        """Return what is remembered once the previous release is the present one, and the other way round."""
        return replace(self, present=self.previous, previous=self.present)

    def document(self) -> dict[str, Any]:
        """Return what `parse` reads. Raises RuntimeError if nothing is remembered."""
        if self.present is None:
            raise RuntimeError("nothing is remembered")
        pace = asdict(self.pace) if self.pace is not None else None
        previous = self.previous.document() if self.previous is not None else None
        return {**self.present.document(), "pace": pace, "previous": previous}

    def write(self, directory: Path) -> None:
        """Write it to `directory`, so that it survives a power cut. Raises StorageError or DiskSpace."""
        path = directory / REMEMBERED_NAME
        data = json.dumps(self.document(), ensure_ascii=False).encode()
        with storage(path, len(data)):
            write_durable(path, data)


NOTHING = Remembered()


def _unchanged(raw: bytes, sha256: Any) -> bytes:
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise CorruptCiphertext("its head was changed")
    return raw


def remember(directory: Path, head: StoredHead, pace: Pace | None = None) -> None:
    """Write an authenticated head to `directory`. Never raises, because a failure must not undo an unlock."""
    try:
        Remembered.read_if_sound(directory).followed_by(head, pace).write(directory)
    except LoaderError as exc:
        log.warning("the images could not be remembered: %s", exc)


def remove_unfinished_memory(directory: Path) -> None:
    """Remove what a process left that was killed while it remembered an unlock. Never raises."""
    remove_unfinished(directory / REMEMBERED_NAME)
