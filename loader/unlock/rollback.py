"""What the engine had before an unlock: pinned, written to a journal, and restored after a failure or a kill.

A pin is a name of the loader's own for an image whose name may move. Some engines drop an image that loses its last
name, and the pin keeps it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from loader.docker_engine import DockerEngine
from loader.errors import Checkpoint, EngineRejected, EngineStalled, EngineUnavailable, LoaderError
from loader.unlock.journal import Former, Journal, JournalFile
from loader.unlock.remembered import Remembered

log = logging.getLogger(__name__)

# How often the engine is asked while it does not respond, or while it may still finish a load of its own.
RETRY_SECONDS = 2.0
# How often a caller is asked whether it still waits while another run changes the engine.
WAIT_SECONDS = 0.5

# A run holds it while it changes names in the engine, and so does the recovery from an earlier run.
_changing = threading.Lock()


class Rollback:
    """Gives names back their images. A journal in `directory` says which, so that a later process can do it too."""

    def __init__(self, engine: DockerEngine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._file = JournalFile(directory)
        self._told_gone: set[str] = set()

    @contextmanager
    def guard(
        self, images: Mapping[str, Iterable[str]], watch_seconds: float, remembered: Remembered | None = None
    ) -> Iterator[None]:
        """Keep what the references name now until the block has ended, and restore it if the block fails.

        `images` maps each reference to the IDs that its new image may have, to none if its image is only kept.
        `watch_seconds` is how long the engine may go on with a load whose end nobody has seen. After a success the
        images that have lost their last name are removed, and the device remembers `remembered`, also if the process is
        killed before it is written. Raises StorageError or DiskSpace if the journal cannot be
        written, and the errors of the engine, before anything has changed.
        """
        with _changing:
            journal, may_go_on = self._begun(images, watch_seconds)
            try:
                self._file.write(journal)
                self._pin(journal.formers)
            except BaseException:
                self._undo(journal, may_go_on=may_go_on)
                raise
            try:
                yield
                proven = self._proven(journal, images, remembered)
            except BaseException as exc:
                # Without a connection nobody sees how the load ends.
                self._undo(journal, may_go_on=may_go_on or isinstance(exc, EngineStalled | EngineUnavailable))
                raise
            self._settle(proven)

    def recover(self, wait: Checkpoint) -> frozenset[tuple[str, str]]:
        """Give the names back that an earlier run has moved.

        Return pairs of a reference and an ID that do not count as there, because the engine may just have finished a
        load of that run, which will be undone. Calls `wait` again and again while another run changes the engine, and
        raises what that raises. Raises StorageError, and the errors of the engine.
        """
        while not _changing.acquire(timeout=WAIT_SECONDS):
            wait()
        try:
            journal = self._file.read()
            if journal is None:
                return frozenset()
            # Pins that stay of what is proven must not keep a later unlock from its work.
            with _logged():
                journal = self._drop_proven(journal)
            self._restore(journal)
            return journal.undone
        finally:
            _changing.release()

    @property
    def is_due(self) -> bool:
        """Whether something is still to be undone, or nobody can know now."""
        return self._file.may_exist()

    def recover_in_background(self) -> None:
        """Undo what an earlier process has left, in a thread, as soon as the engine responds.

        The names are restored at once, and again while the engine may still finish a load.
        """
        self._file.remove_unfinished()
        if self.is_due:
            _repeat(self._take_up)

    def _take_up(self) -> bool:
        with _changing:
            journal = self._file.read()
            if journal is not None:
                with _logged():
                    journal = self._drop_proven(journal)
        if journal is not None:
            self._watch(journal, journal.watch_seconds)
        return True

    def _begun(self, images: Mapping[str, Iterable[str]], watch_seconds: float) -> tuple[Journal, bool]:
        """Return the journal of this run, and whether the engine may still go on with a load of an earlier run.

        What that run has not restored for good is taken over.
        """
        left = self._file.read()
        earlier = {former.reference: former for former in left.formers} if left else {}
        may_go_on = left is not None and not left.proven
        if left is not None and may_go_on:
            watch_seconds = max(watch_seconds, left.watch_seconds)
        formers = {}
        for reference, ids in images.items():
            present, former = self._image(reference), earlier.get(reference)
            # What a name stood for before the earlier run counts, if that run or nobody has moved it since.
            moved = former is not None and present not in {None, former.image, *former.new}
            if former is None or former.proven or moved or self._is_gone(former):
                former = Former(reference, present)
            absent = {new for new in ids if new not in former.new and self._lacks(new)}
            formers[reference] = replace(former, new=former.new | frozenset(ids), absent=former.absent | absent)
        return Journal(tuple((earlier | formers).values()), watch_seconds), may_go_on

    def _proven(self, journal: Journal, images: Mapping[str, Iterable[str]], remembered: Remembered | None) -> Journal:
        """Write that the new `images` are proven, and return that journal. Raises StorageError or DiskSpace."""
        formers = (
            each.proven_as(images[each.reference]) if each.reference in images else each for each in journal.formers
        )
        proven = replace(journal, formers=tuple(formers), remembered=remembered)
        try:
            self._file.write(proven)
        except LoaderError as exc:
            # Before the first pin goes, because a later process would undo a part of what was proven.
            self._file.remove()
            log.warning("the journal could not be written, so that it went: %s", exc)
        return proven

    def _settle(self, journal: Journal) -> None:
        """Drop the pins of what is proven. What an earlier run has left is watched on."""
        with _logged():
            self._drop_proven(journal)
        self._watch(journal, 0.0 if journal.proven else journal.watch_seconds)

    def _drop_proven(self, journal: Journal) -> Journal:
        """Drop the pins of what is proven, and return the rest of the journal, which is written.

        A proven image is pinned in its turn while a load of an earlier run may still take its name.
        """
        proven = [former for former in journal.formers if former.proven]
        endangered = [
            replace(former, image=present, proven=False)
            for former in proven
            if former.new and (present := self._image(former.reference)) not in {None, *former.new}
        ]
        left = replace(
            journal, formers=(*(each for each in journal.formers if not each.proven), *endangered), remembered=None
        )
        if not left.formers:
            self._finish(journal)
        elif proven:
            self._remember(journal)
            self._drop_pins(proven)
            self._pin(endangered)
            self._file.write(left)
        return left

    def _undo(self, journal: Journal, *, may_go_on: bool) -> None:
        with _logged():
            self._restore(journal)
            if not may_go_on:
                self._finish(journal)
        self._watch(journal, journal.watch_seconds if may_go_on else 0.0)

    def _watch(self, journal: Journal, seconds: float) -> None:
        """Restore the names for some seconds, again and again, in a thread, and end with the pins and the journal.

        Nothing shows whether the engine has ended a load. Another run that takes over the journal ends the watch.
        """
        # A system that is out of threads must not turn the end of an unlock, which leaves no journal, into a failure.
        if self._file.may_exist():
            _repeat(partial(self._watched, journal.run, time.monotonic() + seconds))

    def _watched(self, run: str, end: float) -> bool:
        with _changing:
            journal = self._file.read()
            if journal is None or journal.run != run:
                return True
            self._restore(journal)
            if journal.proven or time.monotonic() >= end:
                self._finish(journal)
                return True
        return False

    def _remember(self, journal: Journal) -> None:
        """Write what the journal says is to be remembered. Raises StorageError or DiskSpace."""
        if journal.remembered is not None:
            journal.remembered.write(self._directory)

    def _image(self, reference: str) -> str | None:
        found = self._engine.find(reference)
        return None if found is None else found.id

    def _lacks(self, image_id: str) -> bool:
        try:
            return self._image(image_id) is None
        except EngineRejected:
            # podman tells nothing of an image that it had half written when it was killed.
            return True

    def _pin(self, formers: Iterable[Former]) -> None:
        for former in formers:
            if former.image is not None and self._is_gone(former):
                self._engine.name(former.image, former.pin)

    def _restore(self, journal: Journal) -> None:
        """Give back each name that has one of the new images or none. Others have loaded any other image."""
        unproven = [former for former in journal.formers if not former.proven]
        if unproven:
            # First, because an image that a container uses would stay.
            self._engine.remove_proofs()
        _for_each(unproven, self._restore_name)

    def _restore_name(self, former: Former) -> None:
        if not former.new:
            return
        present = self._image(former.reference)
        if present == former.image or not (present is None or present in former.new):
            return
        if self._is_gone(former):
            # Another engine, or one that somebody has emptied: what has the name now is not of the unlock.
            if former.reference not in self._told_gone:
                log.warning("%s cannot name its former image again, because that is gone", former.reference)
            self._told_gone.add(former.reference)
            return
        if present is not None:
            # First, because an image whose name has moved could not be found after another kill.
            self._forget(former.reference)
        if former.image is not None:
            self._engine.name(former.pin, former.reference)

    def _is_gone(self, former: Former) -> bool:
        return former.image is not None and self._image(former.pin) != former.image

    def _forget(self, reference: str) -> None:
        try:
            self._engine.remove_name(reference)
        except EngineRejected as exc:
            log.warning("an image that an unlock has left was not removed: %s", exc)

    def _finish(self, journal: Journal) -> None:
        """Write what is to be remembered, drop the pins, and the journal after them."""
        self._remember(journal)
        self._drop_pins(journal.formers)
        self._file.remove()

    def _drop_pins(self, formers: Iterable[Former]) -> None:
        # First, because an image that a container uses would stay without a name.
        self._engine.remove_proofs()
        _for_each(formers, self._unpin)

    def _unpin(self, former: Former) -> None:
        if former.image is not None:
            self._engine.drop_name(former.pin, former.reference)
        for image in former.absent:
            # An engine that is killed in a load may have the image and not its name.
            self._engine.remove_nameless(image)


def _for_each(formers: Iterable[Former], work: Callable[[Former], None]) -> None:
    """Do `work` for all of `formers`, and raise the first error then: a fault at one name must not keep the others."""
    faults = []
    for former in formers:
        try:
            work(former)
        except EngineUnavailable:
            raise
        except LoaderError as exc:
            faults.append(exc)
    if faults:
        raise faults[0]


def _repeat(step: Callable[[], bool]) -> None:
    """Start a thread that calls `step` until that returns True. An error is logged whenever it is another one."""

    def work() -> None:
        told = ""
        while True:
            try:
                if step():
                    return
            except LoaderError as exc:
                if str(exc) != told:
                    log.warning("what an unlock has changed in the engine cannot be undone yet: %s", exc)
                told = str(exc)
            time.sleep(RETRY_SECONDS)

    threading.Thread(target=work, name="rollback", daemon=True).start()


@contextmanager
def _logged() -> Iterator[None]:
    """Log an error of the block, because it must not change the outcome of the unlock."""
    try:
        yield
    except LoaderError as exc:
        log.warning("the engine could not be tidied up: %s", exc)
