"""One plan at a time, which all callers of GET /unlock/plan share: a plan asks the engine for up to 256 images."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from loader import api_client
from loader.binary_split import identify
from loader.docker_engine import DockerEngine
from loader.errors import Busy
from loader.files import FileIdentity
from loader.settings import Settings
from loader.unlock.plan import UnlockPlan
from loader.unlock.preview import plan_unlock
from loader.unlock.run import unlock_record
from loader.unlock_state import AT_REST, UnlockRecord

# For how long a plan is shared. It must be short, because the engine does not tell when its images change.
LASTS_SECONDS = 2.0
RETRY_SECONDS = 2


@dataclass(frozen=True)
class _Situation:
    """What a plan was made for: another archive, a step of an unlock, a login or a lock needs another plan."""

    archive: FileIdentity | None
    record: UnlockRecord
    authenticated: bool

    def is_still(self, other: _Situation) -> bool:
        same = (self.archive, self.authenticated) == (other.archive, other.authenticated)
        # Two records can be equal although an unlock lies between them.
        return same and self.record is other.record


@dataclass(frozen=True)
class _Made:
    situation: _Situation
    plan: UnlockPlan
    at: float


class SharedPlan:
    """The plan for one archive and one engine. Threads may share it."""

    def __init__(self, settings: Settings, engine: DockerEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._making = threading.Lock()
        # A quarter of the threads may wait for a plan, because a slow engine must leave threads for other requests.
        self._places = threading.BoundedSemaphore(max(1, settings.threads // 4))
        self._made: _Made | None = None

    def get(self) -> UnlockPlan:
        """Return what an unlock would do, as it was at most LASTS_SECONDS ago.

        Raises what `plan_unlock` raises, and Busy if too many callers wait for a plan.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("Too many requests wait for the plan of the unlock.", RETRY_SECONDS)
        try:
            with self._making:
                return self._fresh()
        finally:
            self._places.release()

    def _fresh(self) -> UnlockPlan:
        # Look before the plan is made: a plan of a situation that changes meanwhile is not shared.
        situation = _Situation(identify(self._settings.images_path), unlock_record(), api_client.authenticated())
        made = self._made
        if made is None or not made.situation.is_still(situation) or time.monotonic() >= made.at + LASTS_SECONDS:
            is_active = situation.record.state not in AT_REST
            plan = plan_unlock(self._settings, self._engine, is_active=is_active)
            made = self._made = _Made(situation, plan, time.monotonic())
        return made.plan
