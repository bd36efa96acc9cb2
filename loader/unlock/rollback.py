"""What the engine had before an unlock: pinned, written to a journal, and restored after a failure or a kill.

A pin is a name of the loader's own for an image whose name may move. Some engines drop an image that loses its last
name, and the pin keeps it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loader.docker_engine import Absent, DockerEngine
from loader.errors import EngineRejected, EngineStalled, EngineUnavailable, LoaderError
from loader.files import make_private_directory, read_small, remove_if_there, storage, sync_directory, write_whole
from loader.references import is_full_reference

log = logging.getLogger(__name__)

JOURNAL_NAME = "unlock-journal.json"
# More than the names of all images of an archive need.
JOURNAL_LIMIT = 1 << 20
# No registry has this name, because RFC 6761 reserves the domain.
PINS = "azaion-loader.invalid/kept"
# How often the engine is asked while it does not respond, or while it may still finish a load of its own.
RETRY_SECONDS = 2.0

_IMAGE_ID = re.compile("sha256:[0-9a-f]{64}")
# A run holds it while it changes names in the engine, and so does the recovery from an earlier run.
_changing = threading.Lock()


@dataclass(frozen=True)
class Former:
    """What a reference named before an unlock: the ID of an image, or None."""

    reference: str
    image: str | None

    @property
    def pin(self) -> str:
        """The name that keeps the image meanwhile."""
        return f"{PINS}:{hashlib.sha256(self.reference.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class Journal:
    """What the references named. `proven` says that all new images were proven, so that nothing is to be restored."""

    formers: tuple[Former, ...]
    proven: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Journal:
        """Return the journal in `data`. Raises ValueError."""
        document = json.loads(data)
        references = document.get("references") if isinstance(document, dict) else None
        if not isinstance(references, dict) or not all(map(_is_former, references.items())):
            raise ValueError("it does not say which image each reference had")
        return cls(tuple(Former(*item) for item in references.items()), document.get("proven") is True)

    def document(self) -> dict[str, object]:
        """Return what `parse` reads."""
        return {"proven": self.proven, "references": {former.reference: former.image for former in self.formers}}


class Rollback:
    """Gives names back their images. A journal in `directory` says which, so that a later process can do it too."""

    def __init__(self, engine: DockerEngine, directory: Path, watch_seconds: float) -> None:
        """`watch_seconds` is how long the engine may go on with a load whose end nobody has seen."""
        self._engine = engine
        self._path = directory / JOURNAL_NAME
        self._watch_seconds = watch_seconds

    @contextmanager
    def guard(self, references: Iterable[str]) -> Iterator[None]:
        """Keep what the references name now until the block has ended, and restore it if the block fails.

        After a success the images that have lost their last name are removed. Raises StorageError or DiskSpace if the
        journal cannot be written, and the errors of the engine, before anything has changed.
        """
        with _changing:
            journal = Journal(tuple(Former(name, self._image(name)) for name in references))
            self._write(journal)
            try:
                self._pin(journal)
                yield
            except BaseException as exc:
                # Without a connection nobody sees how the load ends.
                self._undo(journal, may_go_on=isinstance(exc, EngineStalled | EngineUnavailable))
                raise
            self._settle(journal)
            self._go_on_in_background(0.0)

    def recover(self) -> None:
        """Undo what an earlier run has left. Raises the errors of the engine."""
        with _changing:
            if (journal := self._journal()) and not journal.proven:
                self._restore(journal)
                self._finish(journal)
            elif journal:
                # All is there that was loaded: pins that stay must not keep a later unlock from its work.
                with _logged():
                    self._finish(journal)

    def recover_in_background(self) -> None:
        """Do the same in a thread, as soon as the engine responds.

        The names are restored at once, and again while the engine may still finish a load. Does nothing if nothing was
        left.
        """
        self._go_on_in_background(self._watch_seconds)

    def _settle(self, journal: Journal) -> None:
        """Note that nothing is to be restored any more, and drop the pins."""
        with _logged():
            try:
                self._write(dataclasses.replace(journal, proven=True))
            except LoaderError as exc:
                log.warning("the journal cannot be written, so that it goes: %s", exc)
                # Before the first pin goes, because a later process would undo a part of what was proven.
                self._remove()
            self._finish(journal)

    def _undo(self, journal: Journal, *, may_go_on: bool) -> None:
        watch_seconds = self._watch_seconds if may_go_on else 0.0
        with _logged():
            try:
                self._restore(journal)
            except EngineUnavailable:
                # An engine that was away has no load any more.
                watch_seconds = 0.0
                raise
            if not may_go_on:
                self._finish(journal)
        self._go_on_in_background(watch_seconds)

    def _go_on_in_background(self, watch_seconds: float) -> None:
        if self._is_left():
            work = partial(self._recover_patiently, watch_seconds)
            threading.Thread(target=work, name="rollback", daemon=True).start()

    def _recover_patiently(self, watch_seconds: float) -> None:
        end = time.monotonic() + watch_seconds
        while self._is_left():
            try:
                with _changing:
                    journal = self._journal()
                    if journal is None:
                        return
                    self._restore(journal)
                    if journal.proven or time.monotonic() >= end:
                        self._finish(journal)
            except EngineUnavailable:
                # An engine that was away has no load any more.
                end = 0.0
            except LoaderError as exc:
                log.warning("what an unlock has changed in the engine cannot be undone yet: %s", exc)
            time.sleep(RETRY_SECONDS)

    def _journal(self) -> Journal | None:
        try:
            return Journal.parse(read_small(self._path, JOURNAL_LIMIT))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as exc:
            log.warning("the journal %s cannot be used, so that nothing is undone: %s", self._path, exc)
            with suppress(OSError):
                self._path.unlink()
            return None

    def _write(self, journal: Journal) -> None:
        with storage(self._path, 0):
            make_private_directory(self._path.parent)
            write_whole(self._path, json.dumps(journal.document()).encode())
            sync_directory(self._path.parent)

    def _image(self, reference: str) -> str | None:
        found = self._engine.find(reference)
        return None if found is None else found.id

    def _pin(self, journal: Journal) -> None:
        for former in journal.formers:
            if former.image is not None:
                self._engine.name(former.image, former.pin)

    def _restore(self, journal: Journal) -> None:
        for former in () if journal.proven else journal.formers:
            present = self._image(former.reference)
            if present == former.image:
                continue
            if former.image is not None and self._image(former.pin) != former.image:
                # Another engine, or one that somebody has emptied: what has the name now is not of the unlock.
                log.warning("%s cannot name its former image again, because that is gone", former.reference)
                continue
            if present is not None:
                # First, because an image whose name has moved could not be found after another kill.
                self._forget(former.reference)
            if former.image is not None:
                self._give_back(former)

    def _forget(self, reference: str) -> None:
        try:
            self._engine.remove_name(reference)
        except EngineRejected as exc:
            log.warning("an image that an unlock has left was not removed: %s", exc)

    def _give_back(self, former: Former) -> None:
        try:
            self._engine.name(former.pin, former.reference)
        except Absent:
            log.warning("%s cannot name its former image again, because that is gone", former.reference)

    def _finish(self, journal: Journal) -> None:
        """Drop the pins, and the journal after them."""
        for former in journal.formers:
            if former.image is not None:
                self._engine.drop_name(former.pin, former.reference)
        self._engine.remove_proofs()
        self._remove()

    def _remove(self) -> None:
        with storage(self._path, 0):
            remove_if_there(self._path)
            # A journal that came back after a power cut would undo what was proven.
            sync_directory(self._path.parent)

    def _is_left(self) -> bool:
        try:
            return self._path.exists()
        except OSError:
            return False


def _is_former(item: tuple[str, object]) -> bool:
    reference, image = item
    return is_full_reference(reference) and (
        image is None or (isinstance(image, str) and _IMAGE_ID.fullmatch(image) is not None)
    )


@contextmanager
def _logged() -> Iterator[None]:
    """Log an error of the block, because it must not change the outcome of the unlock."""
    try:
        yield
    except LoaderError as exc:
        log.warning("the engine could not be tidied up: %s", exc)
