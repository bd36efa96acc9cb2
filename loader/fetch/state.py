"""The state of the fetch: one immutable record, replaced under one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import StrEnum

from loader.crypto.archive_head import Release
from loader.unlock_state import Failure, ProgressReport, RunProgress


class FetchState(StrEnum):
    """The states, as clients see them."""

    IDLE = "idle"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    FETCHED = "fetched"
    ERROR = "error"


AT_REST = frozenset({FetchState.IDLE, FetchState.FETCHED, FetchState.ERROR})
STEPS = tuple(state for state in FetchState if state not in AT_REST)


@dataclass(frozen=True)
class FetchRecord:
    """The whole state of the fetch.

    `version` is what was asked for, and `release` what the head says, None while there is no head. `failure` describes
    the error whose text is `error`. `progress` belongs to the current run, or to the last one.
    """

    state: FetchState = FetchState.IDLE
    version: str | None = None
    release: Release | None = None
    error: str | None = None
    failure: Failure | None = None
    progress: RunProgress | None = None


class _FetchStateHolder:
    """The one record of this process. Every method is atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._record = FetchRecord()

    @property
    def record(self) -> FetchRecord:
        """The current record."""
        return self._record

    def snapshot(self) -> tuple[FetchRecord, ProgressReport | None]:
        """Return the whole record and the progress of the same moment."""
        with self._lock:
            progress = self._record.progress
            return self._record, progress.report() if progress is not None else None

    def start(self, version: str, progress: RunProgress) -> bool:
        """Start a run for this version; return False, and change nothing, while another run is active."""
        with self._lock:
            if self._record.state not in AT_REST:
                return False
            self._record = FetchRecord(STEPS[0], version, progress=progress)
            return True

    def note(self, release: Release) -> None:
        """Note what the head of the current run says."""
        with self._lock:
            self._record = replace(self._record, release=release)

    def set(self, state: FetchState, error: str | None = None, failure: Failure | None = None) -> None:
        """Go on to the next step of the current run, or end it."""
        with self._lock:
            self._record = replace(self._record, state=state, error=error, failure=failure)
            if self._record.progress is None:
                return
            if state in STEPS:
                self._record.progress.enter(state)
            else:
                self._record.progress.end(well=state is FetchState.FETCHED)
