"""What this device remembers of its last unlock that was proven: the head of the archive, and how long it took."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from loader.crypto.archive_head import Head, Image, Release, StoredHead
from loader.crypto.json_header import JSON_MAX_SIZE, LENGTH_SIZE
from loader.errors import CorruptCiphertext, StorageError
from loader.files import make_private_directory, read_small, remove_unfinished, write_whole
from loader.unlock.room import Work
from loader.unlock_state import STEPS

log = logging.getLogger(__name__)

REMEMBERED_NAME = "unlocked-manifest.json"
# A head within JSON has a second byte for each quotation mark.
REMEMBERED_LIMIT = 2 * JSON_MAX_SIZE + 4096
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
class Remembered:
    """The last unlock that was proven. `raw` is the JSON of its head, byte for byte; `pace` is None if nobody knows.

    `release` is None only if nothing is remembered.
    """

    raw: bytes
    images: tuple[Image, ...]
    pace: Pace | None
    release: Release | None = None

    @classmethod
    def read(cls, directory: Path) -> Remembered:
        """Return what is remembered in `directory`, nothing if the file is absent. Raises StorageError if it is bad."""
        path = directory / REMEMBERED_NAME
        try:
            document = json.loads(read_small(path, REMEMBERED_LIMIT))
            raw = _unchanged(document["head"].encode(), document["sha256"])
            head = json.loads(raw)
            parsed = Head.parse(head if isinstance(head, dict) else {})
            return cls(raw, parsed.images, Pace.parse(document.get("pace")), parsed.release)
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
            raise StorageError(f"The remembered images {path} cannot be used: {exc}.") from exc
        except (KeyError, TypeError, AttributeError) as exc:
            raise StorageError(f"The remembered images {path} cannot be used: it names no images.") from exc

    @classmethod
    def read_if_sound(cls, directory: Path) -> Remembered:
        """Return what is remembered in `directory`, nothing if the file is absent or, with a warning, if it is bad."""
        try:
            return cls.read(directory)
        except StorageError as exc:
            log.warning("%s", exc)
            return NOTHING

    def is_head(self, head: StoredHead) -> bool:
        """Return whether exactly this head was authenticated by the last unlock on this device."""
        return self.raw == head.raw[LENGTH_SIZE:]


NOTHING = Remembered(b"", (), None)


def _unchanged(raw: bytes, sha256: Any) -> bytes:
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise CorruptCiphertext("its head was changed")
    return raw


def remember(directory: Path, head: StoredHead, pace: Pace | None = None) -> None:
    """Write an authenticated head to `directory`. Never raises, because a failure must not undo an unlock."""
    path = directory / REMEMBERED_NAME
    document = {
        "head": head.raw[LENGTH_SIZE:].decode(),
        "sha256": head.digest,
        "pace": asdict(pace) if pace is not None else None,
    }
    try:
        make_private_directory(directory)
        write_whole(path, json.dumps(document, ensure_ascii=False).encode())
    except OSError as exc:
        log.warning("the images could not be remembered at %s: %s", path, exc.strerror)


def remove_unfinished_memory(directory: Path) -> None:
    """Remove what a process left that was killed while it remembered an unlock. Never raises."""
    remove_unfinished(directory / REMEMBERED_NAME)
