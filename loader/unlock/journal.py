"""The journal of an unlock: which image each name had before, on the disk before the first name moves."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loader.files import (
    NotRegular,
    read_small,
    remove_if_there,
    remove_unfinished,
    storage,
    sync_directory,
    write_durable,
)
from loader.references import LOADER_DOMAIN, is_full_reference
from loader.unlock.remembered import REMEMBERED_LIMIT, Remembered

log = logging.getLogger(__name__)

JOURNAL_NAME = "unlock-journal.json"
# More than the names of all images of two archives need.
JOURNAL_LIMIT = REMEMBERED_LIMIT + (4 << 20)
PINS = f"{LOADER_DOMAIN}/kept"

_IMAGE_ID = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Former:
    """What a reference named before an unlock: the ID of an image, or None. `new` are the IDs that it may get.

    `absent` are those of them that no image had before. Once the new image is `proven`, nothing is to be restored, and
    `new` are the IDs that a load of an earlier unlock may still bring.
    """

    reference: str
    image: str | None
    new: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    proven: bool = False

    @property
    def pin(self) -> str:
        """The name that keeps the image meanwhile."""
        return f"{PINS}:{hashlib.sha256(self.reference.encode()).hexdigest()[:32]}"

    def proven_as(self, ids: Iterable[str]) -> Former:
        """Return what is left once the new image is proven, which has one of `ids`."""
        return replace(self, new=self.new.difference(ids), absent=self.absent.difference(ids), proven=True)

    @property
    def replaced_by(self) -> frozenset[str]:
        """The new IDs without the former one."""
        return self.new - {self.image or ""}


@dataclass(frozen=True)
class Journal:
    """What the references named.

    `watch_seconds` is how long the engine may go on with a load whose end nobody has seen. `run` is another one for
    each unlock. `remembered` is what the device is to remember now that the new images are proven, None if that stays.
    """

    formers: tuple[Former, ...]
    watch_seconds: float
    remembered: Remembered | None = None
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def parse(cls, data: bytes) -> Journal:
        """Return the journal in `data`. Raises ValueError."""
        document = json.loads(data)
        try:
            formers = tuple(_formers(document["references"].items()))
            seconds, run = document["watch_seconds"], document["run"]
            remembered = document.get("remembered")
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError("it does not say which image each reference had") from exc
        is_duration = type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0
        if not is_duration or type(run) is not str:
            raise ValueError("it does not say which unlock it is of, and how long that may go on")
        return cls(formers, seconds, Remembered.parse(remembered) if remembered is not None else None, run)

    @property
    def proven(self) -> bool:
        """Whether nothing is to be restored, now or later."""
        return all(former.proven and not former.new for former in self.formers)

    @property
    def undone(self) -> frozenset[tuple[str, str]]:
        """Pairs of a reference and an ID that do not count as there, because what has brought them is not proven."""
        unproven = (former for former in self.formers if not former.proven)
        return frozenset((former.reference, new) for former in unproven for new in former.replaced_by)

    def document(self) -> dict[str, object]:
        """Return what `parse` reads."""
        references = {
            each.reference: {
                "former": each.image,
                "new": sorted(each.new),
                "absent": sorted(each.absent),
                "proven": each.proven,
            }
            for each in self.formers
        }
        remembered = self.remembered.document() if self.remembered is not None else None
        return {
            "run": self.run,
            "watch_seconds": self.watch_seconds,
            "references": references,
            "remembered": remembered,
        }


class JournalFile:
    """The journal in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / JOURNAL_NAME

    def may_exist(self) -> bool:
        """Return whether there is a journal, or nobody can know now."""
        try:
            self._path.lstat()
        except OSError as exc:
            return not isinstance(exc, FileNotFoundError)
        return True

    def read(self) -> Journal | None:
        """Return the journal, None if there is none.

        One that cannot be used, as damage or another program makes it, is removed with a warning. Raises StorageError
        if the file cannot be read now.
        """
        try:
            return self._parsed()
        except (ValueError, RecursionError) as exc:
            log.warning("the journal %s cannot be used, so that nothing is undone: %s", self._path, exc)
            with suppress(OSError):
                self._path.unlink()
            return None

    def undone(self) -> frozenset[tuple[str, str]]:
        """Return `Journal.undone` of the journal, and change nothing. Nothing is undone without one that can be used.

        Raises StorageError if the file cannot be read now.
        """
        try:
            journal = self._parsed()
        except (ValueError, RecursionError):
            return frozenset()
        return journal.undone if journal is not None else frozenset()

    def write(self, journal: Journal) -> None:
        """Replace the journal, so that it survives a power cut. Raises StorageError or DiskSpace."""
        data = json.dumps(journal.document(), ensure_ascii=False).encode()
        with storage(self._path, len(data)):
            write_durable(self._path, data)

    def remove(self) -> None:
        """Remove the journal, so that it does not come back after a power cut, when it would undo what was proven.

        Raises StorageError.
        """
        with storage(self._path, 0):
            remove_if_there(self._path)
            sync_directory(self._path.parent)

    def remove_unfinished(self) -> None:
        """Remove what a process left that was killed while it wrote the journal. Never raises."""
        remove_unfinished(self._path)

    def _parsed(self) -> Journal | None:
        try:
            return Journal.parse(self._data())
        except FileNotFoundError:
            return None

    def _data(self) -> bytes:
        """Return the content of the file. Raises FileNotFoundError, StorageError, and ValueError for no file at all."""
        try:
            return read_small(self._path, JOURNAL_LIMIT)
        except FileNotFoundError:
            raise
        except OSError as exc:
            if isinstance(exc, NotRegular) or exc.errno == errno.EFBIG:
                raise ValueError(exc.strerror) from exc
            with storage(self._path, 0):
                raise


def _formers(items: Any) -> Iterator[Former]:
    for reference, entry in items:
        former, new, absent, proven = entry["former"], entry["new"], entry["absent"], entry["proven"]
        ids = [*new, *absent, *([] if former is None else [former])]
        if not is_full_reference(reference) or not all(map(_is_id, ids)) or type(proven) is not bool:
            raise ValueError("it does not say which image each reference had")
        yield Former(reference, former, frozenset(new), frozenset(absent), proven)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _IMAGE_ID.fullmatch(value) is not None
