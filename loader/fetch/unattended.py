"""The unattended fetch (FETCH_AT): looks for a newer release now and then, and fetches it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from loader.api_client import authenticated
from loader.crypto.archive import ArchiveIndex
from loader.errors import ApiError, ApiUnreachable, LoaderError
from loader.fetch.run import fetch_status, start_fetch
from loader.fetch.state import AT_REST
from loader.fetch_at import FetchAt, Timetable
from loader.install import open_installed
from loader.published import published_head
from loader.settings import Settings
from loader.unlock.release_mark import KnownRelease, ReleaseMark
from loader.unlock.run import unlock_record
from loader.unlock_state import AT_REST as UNLOCK_AT_REST

log = logging.getLogger(__name__)

# How often the thread looks whether it is time.
CHECK_SECONDS = 30.0


def second_of_day() -> int:
    """Return how many seconds of the local day have passed."""
    now = time.localtime()
    return (now.tm_hour * 60 + now.tm_min) * 60 + now.tm_sec


@dataclass(frozen=True)
class Clock:
    """Where the time comes from: seconds that never step, and the second of the local day."""

    monotonic: Callable[[], float] = time.monotonic
    second_of_day: Callable[[], int] = second_of_day


class UnattendedFetch:
    """Fetches a newer release of API_VERSION when it is time, as long as somebody is logged in."""

    def __init__(
        self, settings: Settings, at: FetchAt, loaded: Callable[[], int | None], clock: Clock, device: str
    ) -> None:
        """`loaded` is described at `RightOfWay`; `device` is the name that places this device in the spread."""
        self._settings = settings
        self._loaded = loaded
        self._clock = clock
        self._timetable = Timetable(at, device, clock.monotonic())
        self._told = ""

    def run(self) -> None:
        """Look whenever it is time, and never return."""
        while True:
            self.step()
            time.sleep(CHECK_SECONDS)

    def step(self) -> None:
        """Look if it is time, and neither a fetch nor an unlock is under way. Never raises."""
        is_due = self._timetable.is_due(self._clock.monotonic(), self._clock.second_of_day())
        if not is_due or fetch_status()[0].state not in AT_REST or unlock_record().state not in UNLOCK_AT_REST:
            return
        if not authenticated():
            self._tell("nobody is logged in, so that no newer release is looked for")
            self._timetable.done(self._clock.monotonic())
            return
        try:
            self._look()
        except (ApiUnreachable, ApiError) as exc:
            self._tell(f"whether there is a newer release is not known: {exc}")
            self._timetable.postpone(self._clock.monotonic())
            return
        except LoaderError as exc:
            self._tell(f"no newer release can be fetched: {exc}")
        except Exception:
            log.exception("the look for a newer release failed because of an unexpected error")
        else:
            self._told = ""
        self._timetable.done(self._clock.monotonic())

    def _tell(self, text: str) -> None:
        """Log what keeps the fetch from its work, once for as long as it is the same."""
        if text != self._told:
            log.warning("unattended fetch: %s", text)
        self._told = text

    def _look(self) -> None:
        version = self._settings.api_version
        index = published_head(version)
        if self._is_newer(index):
            log.info("%s is newer than what is here, and is fetched", KnownRelease.of(index.stored).text)
            start_fetch(self._settings, version, self._loaded)

    def _is_newer(self, index: ArchiveIndex) -> bool:
        """Return whether the release is newer than the archive here and the newest one that became ready here.

        So an operator who went back on purpose keeps the older release. Without an archive the newest may come again.
        """
        mark = ReleaseMark.read(self._settings.model_cache_dir)
        release = KnownRelease.of(index.stored)
        with ExitStack() as opened:
            installed = open_installed(self._settings.images_path, opened)
            if installed is None:
                return mark.newer_than(release) is None
            here = installed.head.release.serial
        return release.serial > max(here, mark.newest.serial if mark.newest is not None else here)


def start_unattended(settings: Settings, loaded: Callable[[], int | None]) -> None:
    """Start the unattended fetch in a thread, if FETCH_AT asks for it. The thread ends with the process."""
    if settings.fetch_at is not None:
        unattended = UnattendedFetch(settings, settings.fetch_at, loaded, Clock(), settings.device_name)
        threading.Thread(target=unattended.run, name="unattended fetch", daemon=True).start()
