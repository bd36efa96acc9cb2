"""Which edition of each model this device has accepted last: `accepted-models.json` in MODEL_CACHE_DIR.

    {"models": {"day/detector.onnx": {"serial": 7, "created": "2026-03-01T12:00:00Z", "content": "<64 hex digits>"}}}

Only models with a valid signature get into it. A program that may write to the directory can erase it, which permits an
older edition, but only one that is signed as well.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loader.crypto.json_header import exactly, is_integer, is_text, is_time, require
from loader.errors import CorruptCiphertext, LoaderError
from loader.files import read_small, storage, write_durable

log = logging.getLogger(__name__)

NAME = "accepted-models.json"
# More models than a device has. Beyond it the one that was accepted first is forgotten.
MAX_MODELS = 4096
MAX_FILE_SIZE = 8 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Mark:
    """An accepted edition: its serial, when it was made, and the SHA-256 of what its signature covers, in hex."""

    serial: int
    created: str
    content: str

    @classmethod
    def parse(cls, document: Any) -> Mark:
        """Parse one entry. Raises CorruptCiphertext."""
        require(isinstance(document, dict), "models")
        serial, created, content = exactly(document, "serial", "created", "content")
        require(is_integer(serial) and is_time(created) and is_text(content, _DIGEST), "models")
        return cls(serial, created, content)

    def is_before(self, other: Mark) -> bool:
        """Return whether `other` is a newer edition."""
        return self.serial < other.serial


class AcceptedModels:
    """The marks of all models, by their paths. Threads may share them."""

    def __init__(self, directory: Path) -> None:
        """Read the file in `directory`. A file that is missing, malformed or unreadable has no marks."""
        self._path = directory / NAME
        self._lock = threading.Lock()
        self._marks: dict[str, Mark] = {}
        try:
            self._marks = _read(self._path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
            log.warning("%s is not used, so an older edition of a model may be accepted: %s", self._path, exc)

    def find(self, path: str) -> Mark | None:
        """Return the newest accepted edition of a model."""
        with self._lock:
            return self._marks.get(path)

    def accept(self, path: str, mark: Mark) -> None:
        """Remember an edition on the disk, unless a newer one was accepted.

        If the disk does not take it, it is remembered until the loader ends.
        """
        with self._lock:
            present = self._marks.get(path)
            if present is not None and not present.is_before(mark):
                return
            self._marks.pop(path, None)
            self._marks[path] = mark
            while len(self._marks) > MAX_MODELS:
                del self._marks[next(iter(self._marks))]
            try:
                self._write()
            except LoaderError as exc:
                log.warning("the accepted edition of %s is not remembered on the disk: %s", path, exc)

    def _write(self) -> None:
        document = {"models": {path: asdict(mark) for path, mark in self._marks.items()}}
        with storage(self._path, 0):
            write_durable(self._path, json.dumps(document).encode())


def _read(path: Path) -> dict[str, Mark]:
    """Read a file of marks. Raises OSError, ValueError, RecursionError and CorruptCiphertext."""
    document = json.loads(read_small(path, MAX_FILE_SIZE))
    require(isinstance(document, dict), "models")
    (models,) = exactly(document, "models")
    require(isinstance(models, dict) and len(models) <= MAX_MODELS, "models")
    return {name: Mark.parse(entry) for name, entry in models.items()}
