"""A directory with a journal, in which an unlock changes an engine and ends in some way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loader.unlock.journal import JOURNAL_NAME
from loader.unlock.rollback import Rollback
from tests.support.processes import poll
from tests.unlock.rollback.engine_of_names import REFERENCES, EngineOfNames, Killed, gone, image_id

WAIT_SECONDS = 20.0
# The images that an unlock under test brings.
NEW = frozenset({image_id(8), image_id(9)})
ENDLESS = 1 << 30


@dataclass
class Device:
    """An engine, and the directory of the journal. Each call of `rollback` is as a new process."""

    engine: EngineOfNames
    directory: Path

    @property
    def journal(self) -> Path:
        return self.directory / JOURNAL_NAME

    @property
    def rollback(self) -> Rollback:
        return Rollback(self.engine, self.directory)

    @contextmanager
    def guarded(self, references: Iterable[str] = REFERENCES, watch_seconds: float = 0.0) -> Iterator[None]:
        """Guard the block as an unlock of NEW does."""
        with self.rollback.guard(dict.fromkeys(references, NEW), watch_seconds):
            yield

    def unlock(
        self, moved: Iterable[tuple[str, str]], end: BaseException | None = None, watch_seconds: float = 0.0
    ) -> None:
        """Move names as loads do, and end with `end`. An engine that is gone or killed with it stays so."""
        with self.guarded(watch_seconds=watch_seconds):
            for name, image in moved:
                self.engine.put(name, image)
            if isinstance(end, Killed) or str(end) == str(gone()):
                self.engine.calls_left, self.engine.ends_with = 0, end or Killed()
            if end is not None:
                raise end

    def kill(self, moved: Iterable[tuple[str, str]], watch_seconds: float = 0.0) -> None:
        """Unlock, and be killed at the end of the loads. Calls of the engine succeed again."""
        with suppress(Killed):
            self.unlock(moved, Killed(), watch_seconds)
        self.engine.calls_left = ENDLESS

    def recover(self) -> frozenset[tuple[str, str]]:
        """Do what an unlock does first."""
        return self.rollback.recover(lambda: None)

    def start(self) -> None:
        """Do what a new process does at its start, until it has nothing left to do."""
        self.engine.calls_left = ENDLESS
        self.rollback.recover_in_background()
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is left to be undone."""
        poll(lambda: not self.journal.exists(), WAIT_SECONDS, "the journal is gone")
