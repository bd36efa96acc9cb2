"""Where an unlock stands: one immutable record, replaced under one lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from loader.errors import LoaderError

if TYPE_CHECKING:
    from loader.unlock.progress import ProgressReport, UnlockProgress

T = TypeVar("T")


class UnlockState(StrEnum):
    """The states, as they appear on the wire."""

    IDLE = "idle"
    AUTHENTICATING = "authenticating"
    DOWNLOADING_KEY = "downloading_key"
    DECRYPTING = "decrypting"
    LOADING_IMAGES = "loading_images"
    READY = "ready"
    ERROR = "error"


AT_REST = frozenset({UnlockState.IDLE, UnlockState.READY, UnlockState.ERROR})
STEPS = tuple(state for state in UnlockState if state not in AT_REST)


@dataclass(frozen=True)
class ArchiveIdentity:
    """Which file an archive is, so that another one put in its place is noticed."""

    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Failure:
    """What is kept of an error. The error itself would keep the frames that it passed, and with them their secrets."""

    code: str
    retryable: bool
    hint: str

    @classmethod
    def of(cls, error: LoaderError) -> Failure:
        """What is kept of `error`."""
        return cls(error.code, error.retryable, error.hint)


@dataclass(frozen=True)
class UnlockRecord:
    """`failure` is what `error` came from; `archive` is the one that `ready` was reached for, if any.

    `progress` is that of the run that lives, or of the last one.
    """

    state: UnlockState = UnlockState.IDLE
    error: str | None = None
    failure: Failure | None = None
    archive: ArchiveIdentity | None = None
    progress: UnlockProgress | None = None


class _UnlockStateHolder:
    """The one record of this process. Every method is atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._record = UnlockRecord()

    @property
    def state(self) -> UnlockState:
        """The present state."""
        return self._record.state

    def get(self) -> tuple[UnlockState, str | None]:
        """State and error, of the same moment."""
        record, _ = self.snapshot()
        return record.state, record.error

    def snapshot(self) -> tuple[UnlockRecord, ProgressReport | None]:
        """The whole record and how far it is, of the same moment."""
        with self._lock:
            progress = self._record.progress
            return self._record, progress.report() if progress is not None else None

    def set(
        self,
        state: UnlockState,
        error: str | None = None,
        *,
        failure: Failure | None = None,
        archive: ArchiveIdentity | None = None,
    ) -> None:
        """Replace the record; the progress of the run that lives follows. Without one there is none."""
        with self._lock:
            progress = self._record.progress if self._record.state not in AT_REST else None
            self._record = UnlockRecord(state, error, failure, archive, progress)
            if progress is None:
                return
            if state in STEPS:
                progress.enter(state)
            else:
                progress.end(well=state is UnlockState.READY)

    def try_ready(self) -> UnlockState:
        """Become `ready` without run and archive unless a run lives, checked and set in one step; the state then."""
        with self._lock:
            if self._record.state in AT_REST:
                self._record = UnlockRecord(UnlockState.READY)
            return self._record.state

    def is_ready_for(self, archive: ArchiveIdentity) -> bool:
        """Whether `archive` is unlocked, as far as is known here."""
        record = self._record
        return record.state is UnlockState.READY and record.archive == archive

    def try_start(
        self, archive: ArchiveIdentity, progress: UnlockProgress, admit: Callable[[], T], *, again: bool = False
    ) -> tuple[UnlockProgress, T] | None:
        """Check and start in one step: `progress` for exactly one caller, who must then unlock `archive`.

        That caller alone asks `admit` and gets what it returns; if it raises, nothing has begun. None while a run
        lives, and, unless `again`, when `archive` is already unlocked. The prior error stays in the record until the
        run replaces it.
        """
        with self._lock:
            before = self._record
            if before.state not in AT_REST or (self.is_ready_for(archive) and not again):
                return None
            admitted = admit()
            self._record = UnlockRecord(STEPS[0], before.error, before.failure, progress=progress)
            return progress, admitted
