"""Where an unlock stands: one immutable record, replaced under one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True)
class ArchiveIdentity:
    """Which file an archive is, so that another one put in its place is noticed."""

    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True)
class UnlockRecord:
    """`error` is a sentence and `code` its stable name; `archive` is the one that `ready` was reached for, if any."""

    state: UnlockState = UnlockState.IDLE
    error: str | None = None
    code: str | None = None
    archive: ArchiveIdentity | None = None


class _UnlockStateHolder:
    """The one record of this process. Every method is atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._record = UnlockRecord()

    @property
    def state(self) -> UnlockState:
        """The present state."""
        return self.record().state

    def get(self) -> tuple[UnlockState, str | None]:
        """State and error, of the same moment."""
        record = self.record()
        return record.state, record.error

    def record(self) -> UnlockRecord:
        """The whole record."""
        with self._lock:
            return self._record

    def set(
        self,
        state: UnlockState,
        error: str | None = None,
        *,
        code: str | None = None,
        archive: ArchiveIdentity | None = None,
    ) -> None:
        """Replace the record."""
        with self._lock:
            self._record = UnlockRecord(state, error, code, archive)

    def try_start(self, archive: ArchiveIdentity) -> bool:
        """Check and start in one step: True for exactly one caller, who must then run the unlock of `archive`.

        False while a run lives, and when `archive` is already unlocked. The prior error stays in the record until the
        run replaces it.
        """
        with self._lock:
            unlocked = self._record.state is UnlockState.READY and self._record.archive == archive
            if self._record.state not in AT_REST or unlocked:
                return False
            self._record = UnlockRecord(UnlockState.AUTHENTICATING, self._record.error, self._record.code)
            return True
