"""The one fetch of this process: started, joined, interrupted and told about."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from loader import logs
from loader.api_client import get_api_client, user
from loader.errors import UNEXPECTED, Busy, LoaderError
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.state import STEPS, FetchRecord, FetchState, _FetchStateHolder
from loader.fetch.steps import FetchRun, run_fetch
from loader.last_events import note
from loader.published import head_path
from loader.settings import Settings
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from loader.unlock_state import Failure, ProgressReport

log = logging.getLogger(__name__)

# After how many seconds a caller should try again while another release is fetched.
BUSY_SECONDS = 60
BUSY_HINT = "Wait for that release, or cancel its fetch; then try again."
AGAIN_HINT = "Start the fetch again; it goes on where it stopped."

_fetch = _FetchStateHolder()
# Only one thread at a time may decide whether a run starts.
_starting = threading.Lock()
# Belongs to the current or last run; interrupting one run never affects the next.
_interrupter = Interrupter()
# Set when the process is told to end, so that every later run is interrupted too.
_told_to_stop = False


class FetchAnswer(NamedTuple):
    """What a request to fetch gets: the record afterwards, and whether this request has started a run."""

    record: FetchRecord
    started: bool


def fetch_status() -> tuple[FetchRecord, ProgressReport | None]:
    """Return the record of this process's fetch, and the progress of its run."""
    return _fetch.snapshot()


def stop() -> None:
    """Interrupt the current run and every later one. Called when the process is told to end."""
    global _told_to_stop
    _told_to_stop = True
    interrupt("the loader was told to stop")


def interrupt(reason: str) -> None:
    """Interrupt the current run; what has come stays for the next one. `reason` completes "... because"."""
    _interrupter.stop(reason)


def start_fetch(
    settings: Settings, version: str, loaded: Callable[[], int | None], source: str | None = None
) -> FetchAnswer:
    """Start to fetch a release, or join the run that does so.

    `loaded` is described at `RightOfWay`, and `source` at `FetchRun`. Raises NotLoggedIn, and Busy while another
    release is fetched.
    """
    get_api_client().checkpoint()
    with _starting:
        progress = UnlockProgress(STEPS)
        started = _fetch.start(version, progress)
        if started:
            run = FetchRun(settings, version, RightOfWay(loaded), progress, _new_interrupter(), _fetch, source)
            try:
                threading.Thread(target=_run_audited, args=(run, logs.Origin.current()), name="fetch").start()
            except RuntimeError:
                # A system that is out of threads refuses this one, and a run without a thread would never end.
                log.exception("the fetch got no thread")
                _end(LoaderError(UNEXPECTED))
        record = _fetch.record
    if record.version != version:
        raise Busy(f"The release {record.version} is being fetched.", BUSY_SECONDS, hint=BUSY_HINT)
    return FetchAnswer(record, started)


def _new_interrupter() -> Interrupter:
    global _interrupter
    _interrupter = Interrupter("fetch", AGAIN_HINT)
    if _told_to_stop:
        stop()
    return _interrupter


def _run_audited(run: FetchRun, origin: logs.Origin) -> None:
    """Run the fetch, write its audit line, and remember it as the last one."""
    with origin.applied():
        audit = logs.Audit("fetch", head_path(run.version), version=run.version, user=user())
        failure = _failure_of(run)
        audit.size = run.right_of_way.received
        code, reason = (failure.code, str(failure)) if failure is not None else (None, None)
        note(run.settings.model_cache_dir, audit.write("ok" if failure is None else "failed", code, reason))
        # After the audit line, because a client that reads that the run has ended may look for it.
        _end(failure)


def _end(failure: LoaderError | None) -> None:
    if failure is None:
        _fetch.set(FetchState.FETCHED)
    else:
        _fetch.set(FetchState.ERROR, str(failure), Failure.of(failure))


def _failure_of(run: FetchRun) -> LoaderError | None:
    """Run the fetch, and return why it failed."""
    try:
        run_fetch(run)
    except LoaderError as exc:
        return exc
    except Exception:
        log.exception("fetch failed because of an unexpected error")
        return LoaderError(UNEXPECTED)
    return None
