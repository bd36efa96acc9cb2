"""The state of the unlock: one immutable record, replaced under one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from loader.errors import LoaderError
from loader.files import FileIdentity


class UnlockState(StrEnum):
    """The states, as clients see them."""

    IDLE = "idle"
    AUTHENTICATING = "authenticating"
    DOWNLOADING_KEY = "downloading_key"
    DECRYPTING = "decrypting"
    LOADING_IMAGES = "loading_images"
    READY = "ready"
    ERROR = "error"


AT_REST = frozenset({UnlockState.IDLE, UnlockState.READY, UnlockState.ERROR})
STEPS = tuple(state for state in UnlockState if state not in AT_REST)
# The steps of a run, as clients see them. The state is already `authenticating` while the run checks what it can
# without a login.
CHECKING = "checking"
RUN_STEPS = (CHECKING, *STEPS)


@dataclass(frozen=True)
class Step:
    """Step `number` of `of`, counted from 1."""

    number: int
    of: int
    name: str


@dataclass(frozen=True)
class ProgressReport:
    """The progress of a run at one moment.

    Times are RFC 3339 or seconds, amounts are bytes, and `rate` is bytes per second over the last seconds. `percent` is
    100 only after the run has succeeded. `eta_seconds` is None while no byte is counted. `activity` is a sentence about
    the image that is being loaded, None in other steps. `silent_seconds` is how long no byte was counted.
    """

    step: Step
    bytes_done: int
    bytes_total: int
    percent: int
    rate: int
    eta_seconds: float | None
    activity: str | None
    silent_seconds: float
    started_at: str
    updated_at: str
    duration_seconds: dict[str, float]


class RunProgress(Protocol):
    """What the record needs of the progress of a run. `loader.unlock.progress.UnlockProgress` provides it."""

    def enter(self, step: str) -> None:
        """Start the next step."""

    def end(self, *, well: bool) -> None:
        """Note that the run has ended."""

    def report(self) -> ProgressReport:
        """Return the progress at this moment."""


@dataclass(frozen=True)
class Failure:
    """What the record keeps of an error. It keeps no exception, because its traceback would keep secrets in memory."""

    code: str
    retryable: bool
    hint: str

    @classmethod
    def of(cls, error: LoaderError) -> Failure:
        """Return what the record keeps of `error`."""
        return cls(error.code, error.retryable, error.hint)


@dataclass(frozen=True)
class UnlockRecord:
    """The whole state of the unlock.

    `failure` describes the error whose text is `error`. `archive` is the archive that `ready` was reached with, None if
    there was none. `proven` is set in `ready` only: a key fragment has authenticated the list of these images on this
    device. `progress` belongs to the current run, or to the last one.
    """

    state: UnlockState = UnlockState.IDLE
    error: str | None = None
    failure: Failure | None = None
    archive: FileIdentity | None = None
    progress: RunProgress | None = None
    proven: bool = False


class _UnlockStateHolder:
    """The one record of this process. Every method is atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._record = UnlockRecord()

    @property
    def record(self) -> UnlockRecord:
        """The current record."""
        return self._record

    @property
    def state(self) -> UnlockState:
        """The current state."""
        return self._record.state

    def get(self) -> tuple[UnlockState, str | None]:
        """Return the state and the error of the same moment."""
        record, _ = self.snapshot()
        return record.state, record.error

    def snapshot(self) -> tuple[UnlockRecord, ProgressReport | None]:
        """Return the whole record and the progress of the same moment."""
        with self._lock:
            progress = self._record.progress
            return self._record, progress.report() if progress is not None else None

    def set(
        self,
        state: UnlockState,
        error: str | None = None,
        *,
        failure: Failure | None = None,
        archive: FileIdentity | None = None,
        proven: bool = False,
    ) -> None:
        """Replace the record. The progress of the current run follows; without a run the record has no progress."""
        with self._lock:
            progress = self._record.progress if self._record.state not in AT_REST else None
            self._record = UnlockRecord(state, error, failure, archive, progress, proven)
            if progress is None:
                return
            if state in STEPS:
                progress.enter(state)
            else:
                progress.end(well=state is UnlockState.READY)

    def try_ready(self, *, proven: bool) -> UnlockRecord:
        """Set `ready` without a run and an archive, unless a run is active. Return the record afterwards."""
        with self._lock:
            if self._record.state in AT_REST:
                self._record = UnlockRecord(UnlockState.READY, proven=proven)
            return self._record

    def is_ready_for(self, archive: FileIdentity) -> bool:
        """Return whether a run has unlocked `archive`. Its images may have been removed since."""
        record = self._record
        return record.state is UnlockState.READY and record.archive == archive

    def may_start(self, archive: FileIdentity, *, again: bool = False) -> bool:
        """Return whether a run may start: no run is active, and `archive` is not unlocked yet unless `again` is set."""
        with self._lock:
            return self._record.state in AT_REST and (again or not self.is_ready_for(archive))

    def start(self, progress: RunProgress) -> None:
        """Start a run with `progress`. The error of the last run stays until the run replaces the record.

        Raises RuntimeError while a run is active.
        """
        with self._lock:
            before = self._record
            if before.state not in AT_REST:
                raise RuntimeError("an unlock is already running")
            self._record = UnlockRecord(STEPS[0], before.error, before.failure, progress=progress)
