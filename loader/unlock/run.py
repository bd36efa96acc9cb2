"""One run of the unlock: from an encrypted archive, a login and a key fragment to images in the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from loader import logs
from loader.api_client import get_api_client
from loader.binary_split import Archive, identify, open_archive
from loader.docker_engine import DockerEngine
from loader.errors import UNEXPECTED, Busy, LoaderError
from loader.last_events import login_audited, note
from loader.login_throttle import LoginThrottle
from loader.settings import Settings
from loader.unlock.delivery import Delivery, image_delivery, tar_path
from loader.unlock.images import Loading, require_images_without_archive
from loader.unlock.interrupter import Interrupter
from loader.unlock.layers import whole
from loader.unlock.plan import PlannedImage, UnlockPlan, described, look_up_images, make_plan, runnable_images
from loader.unlock.previous import Exchange, drop_previous, exchange, keep_present
from loader.unlock.progress import UnlockProgress
from loader.unlock.release_mark import (
    KnownRelease,
    ReleaseMark,
    note_ready,
    remove_unfinished_mark,
    require_minimum,
)
from loader.unlock.remembered import Pace, Remembered, remember, remove_unfinished_memory
from loader.unlock.rollback import Rollback
from loader.unlock.room import require_room
from loader.unlock.tar_file import remove_tar
from loader.unlock_state import (
    AT_REST,
    RUN_STEPS,
    Failure,
    ProgressReport,
    UnlockRecord,
    UnlockState,
    _UnlockStateHolder,
)

if TYPE_CHECKING:
    from loader.api_client.client import ApiClient


log = logging.getLogger(__name__)

# After an interrupt a load may go on for this long. Once the engine has the whole tar it needs time to finish, which is
# less than the grace period of the process. Before that it only needs to take the current piece, so that the load ends
# and is tidied up.
COMMIT_PATIENCE_SECONDS = 10.0
PIECE_PATIENCE_SECONDS = 2.0
# After how many seconds a caller should try again while an earlier run is undone.
UNDOING_SECONDS = 10
# After how many seconds a caller should try again while the previous release takes the place of the present one.
EXCHANGE_SECONDS = 2
# After how many seconds a caller of `go_back` should try again while an unlock is under way.
UNLOCK_SECONDS = 60
# What the login and the download of the key fragment wait for.
WAITING = "The loader waits for the resource API at {}."


_unlock = _UnlockStateHolder()
# Only one thread at a time may decide whether a run starts.
_starting = threading.Lock()
# Held while the previous release takes the place of the present one. Taken and looked at while `_starting` is held.
_exchanging = threading.Lock()
# Only one caller at a time may have the engine prove what it can run.
_looking = threading.Lock()
# Belongs to the current or last run; interrupting one run never affects the next.
_interrupter = Interrupter()
# Set when the process is told to end, so that every later run is interrupted too.
_told_to_stop = False


@dataclass(frozen=True)
class Credentials:
    """What a caller at the address `client` wants to log in with."""

    client: str
    email: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True)
class UnlockRun:
    """All that one run works with. `audit` collects the facts of its audit line.

    `allow_older` is the digest of the one head that may be older than the newest."""

    settings: Settings
    engine: DockerEngine
    credentials: Credentials
    throttle: LoginThrottle
    progress: UnlockProgress
    interrupter: Interrupter
    allow_older: str | None = None
    audit: logs.Audit = field(default_factory=lambda: logs.Audit("unlock"))

    @property
    def rollback(self) -> Rollback:
        """What gives names in the engine back their images."""
        return make_rollback(self.settings, self.engine)


class UnlockAnswer(NamedTuple):
    """What a request to unlock gets: the record afterwards, and whether this request has started a run."""

    record: UnlockRecord
    started: bool


def unlock_status() -> tuple[UnlockRecord, ProgressReport | None]:
    """Return the record of this process's unlock, and the progress of its run."""
    return _unlock.snapshot()


def unlock_record() -> UnlockRecord:
    """Return the record of this process's unlock. It is another object after each step."""
    return _unlock.record


def stop() -> None:
    """Interrupt the current run and every later one. Called when the process is told to end."""
    global _told_to_stop
    _told_to_stop = True
    _interrupter.stop("the loader was told to stop")


def interrupt(reason: str = "the loader was locked") -> None:
    """Interrupt the current run. `reason` completes "... because"."""
    _interrupter.stop(reason)


def start_unlock(
    settings: Settings,
    engine: DockerEngine,
    throttle: LoginThrottle,
    credentials: Credentials,
    allow_older: str | None = None,
) -> UnlockAnswer:
    """Start a run unless one is active or nothing is left to do.

    `allow_older` is the digest of the head that may be older than the newest release here, None if none may. Without an
    archive there is no run: the state becomes `ready` if the expected images are in the engine. Raises ArchiveNotFound,
    EngineUnavailable, StorageError, Busy while an earlier run or `go_back` changes the engine, and LoginThrottled if a
    run would start but its login must wait.
    """
    if _unlock.state not in AT_REST:
        return UnlockAnswer(_unlock.record, started=False)
    archive = identify(settings.images_path)
    if archive is None:
        return UnlockAnswer(_ready_without_archive(settings, engine), started=False)
    again = _unlock.is_ready_for(archive) and _are_lost(settings, engine)
    with _starting:
        if _exchanging.locked():
            raise Busy("The previous release takes the place of the present one.", EXCHANGE_SECONDS)
        starts = _unlock.may_start(archive, again=again)
        if starts:
            throttle.require_no_wait(credentials.client)
            progress, interrupter = UnlockProgress(RUN_STEPS), _new_interrupter()
            audit = logs.Audit("unlock", str(settings.images_path), user=logs.told_user(credentials.email))
            audit.allow_older = allow_older
            run = UnlockRun(settings, engine, credentials, throttle, progress, interrupter, allow_older, audit)
            _unlock.start(run.progress)
            # A system that is out of threads refuses this one, and a run without a thread would never end.
            with _failure_recorded():
                threading.Thread(target=_run_audited, args=(run, logs.Origin.current()), name="unlock").start()
        return UnlockAnswer(_unlock.record, starts)


def _ready_without_archive(settings: Settings, engine: DockerEngine) -> UnlockRecord:
    """Set `ready` if the expected images are in the engine, and return the record. Raises what `start_unlock` does."""
    undone = make_rollback(settings, engine).recover(_refuse_to_wait)
    proven = require_images_without_archive(settings, engine)
    if undone and any((image.reference, new) in undone for image in _remembered(settings).images for new in image.ids):
        _refuse_to_wait()
    return _unlock.try_ready(proven=proven)


def go_back(settings: Settings, engine: DockerEngine) -> Exchange:
    """Give the names of the present release to the previous one. The state becomes `idle`, as after a restart.

    Raises Busy while an unlock is under way or still to be undone, and the errors of `exchange`.
    """
    with _starting:
        if _unlock.state not in AT_REST:
            raise Busy("An unlock is under way.", UNLOCK_SECONDS)
        if not _exchanging.acquire(blocking=False):
            raise Busy("Another request exchanges the releases.", EXCHANGE_SECONDS)
    try:
        rollback = make_rollback(settings, engine)
        rollback.recover(_refuse_to_wait)
        if rollback.is_due:
            _refuse_to_wait()
        done = exchange(settings, engine, rollback)
        _unlock.set(UnlockState.IDLE)
        return done
    finally:
        _exchanging.release()


def _refuse_to_wait() -> None:
    raise Busy("What an earlier unlock has changed in the engine is still to be undone.", UNDOING_SECONDS)


def _remembered(settings: Settings) -> Remembered:
    return Remembered.read_if_sound(settings.model_cache_dir)


def _are_lost(settings: Settings, engine: DockerEngine) -> bool:
    """Return whether the engine lacks images of the archive, or cannot run them any more.

    False if it does not respond, or while another caller finds that out.
    """
    if not _looking.acquire(blocking=False):
        return False
    try:
        engine.ping()
        with open_archive(settings.images_path) as archive:
            images, _ = _look_up(settings, engine, archive)
            return not all(image.present for image in images)
    except LoaderError:
        return False
    finally:
        _looking.release()


def _look_up(
    settings: Settings, engine: DockerEngine, archive: Archive, undone: Container[tuple[str, str]] = ()
) -> tuple[tuple[PlannedImage, ...], bool]:
    """Return what the engine has of the archive, without what will be `undone`, and whether it was proven here.

    What was proven here must be able to run now.
    """
    images = look_up_images(engine, archive.head, undone)
    proven = _remembered(settings).is_head(archive.index.stored)
    # Only an authenticated head may make containers.
    return (runnable_images(engine, images) if proven else images), proven


def _new_interrupter() -> Interrupter:
    global _interrupter
    _interrupter = Interrupter()
    if _told_to_stop:
        stop()
    return _interrupter


def make_rollback(settings: Settings, engine: DockerEngine) -> Rollback:
    """Return what undoes an unlock in the engine. Its journal lies in the directory of the cache."""
    return Rollback(engine, settings.model_cache_dir)


def undo_leftover(settings: Settings, engine: DockerEngine) -> None:
    """Remove what an earlier process left that was killed during an unlock, above all plaintext. Never raises.

    What it has changed in the engine is undone in a thread.
    """
    remove_tar(tar_path(settings))
    remove_unfinished_memory(settings.model_cache_dir)
    remove_unfinished_mark(settings.model_cache_dir)
    make_rollback(settings, engine).recover_in_background()


def _run_audited(run: UnlockRun, origin: logs.Origin) -> None:
    """Run the unlock, write its audit line, and remember it as the last one."""
    with origin.applied():
        _run_unlock(run)
        record, _ = _unlock.snapshot()
        failure = record.failure if record.state is UnlockState.ERROR else None
        run.audit.size = record.archive.size if record.archive else None
        code, reason = (failure.code, record.error) if failure is not None else (None, None)
        outcome = "ok" if record.state is UnlockState.READY else "failed"
        note(run.settings.model_cache_dir, run.audit.write(outcome, code, reason))


def _run_unlock(run: UnlockRun) -> None:
    """Take the seven steps of an unlock. Ends in `ready` or in `error`, and never raises."""
    with _failure_recorded(), open_archive(run.settings.images_path) as archive:
        api = get_api_client()
        run.audit.version = archive.head.release.version
        archive.require_publisher(run.settings.publisher_keys)
        archive.require_version(run.settings.api_version)
        mark, release = ReleaseMark.read(run.settings.model_cache_dir), KnownRelease.of(archive.index.stored)
        mark.require_not_older(release, run.allow_older)
        undone = run.interrupter.call(lambda: run.rollback.recover(run.interrupter.checkpoint))
        images, proven = run.interrupter.call(lambda: _look_up(run.settings, run.engine, archive, undone))
        if all(image.present for image in images):
            note_ready(run.settings.model_cache_dir, mark, release, proven=proven)
            _, prior_error = _unlock.get()
            _unlock.set(UnlockState.READY, prior_error, archive=archive.identity, proven=proven)
            return
        archive.require_complete()
        plan = make_plan(run.settings, archive, images, run.engine, described(run.engine))
        require_room(plan.places)
        # Leaving the block removes the tar; a tar that cannot be removed is a warning in the log.
        with image_delivery(run.settings, archive, plan.layouts, run.interrupter.checkpoint) as delivery:
            _log_in(run, api)
            fragment = _download_fragment(run, api, archive)
            _decrypt(run, plan, delivery, fragment)
            del fragment
            _make_room(run, plan)
            fell_back = _load(run, plan, archive, delivery)
        remember(run.settings.model_cache_dir, archive.index.stored, _pace(run, plan, fell_back=fell_back))
        # Before the state, because a client that reads `ready` may rely on the mark.
        note_ready(run.settings.model_cache_dir, mark, release, proven=True)
        _unlock.set(UnlockState.READY, archive=archive.identity, proven=True)


def _pace(run: UnlockRun, plan: UnlockPlan, *, fell_back: bool) -> Pace | None:
    """Return how fast this run was, or the last one that could tell: one that fell back did other work than planned."""
    measured = None if fell_back else Pace.measured(plan.mode, plan.work, run.progress.report().duration_seconds)
    return measured or _remembered(run.settings).pace


def _log_in(run: UnlockRun, api: ApiClient) -> None:
    _unlock.set(UnlockState.AUTHENTICATING)
    # The next step with progress takes the sentence away again.
    run.progress.reach(0, WAITING.format(run.settings.api_host))

    def log_in() -> None:
        # An interrupt may leave this call behind. The outcome of its login counts in the throttle even then.
        email, password = run.credentials.email, run.credentials.password
        with login_audited(run.settings.model_cache_dir, email), run.throttle.login(run.credentials.client, email):
            api.login(email, password, run.interrupter.checkpoint)

    run.interrupter.call(log_in)
    run.audit.user = run.credentials.email


def _download_fragment(run: UnlockRun, api: ApiClient, archive: Archive) -> bytes:
    _unlock.set(UnlockState.DOWNLOADING_KEY)
    fragment = run.interrupter.call(lambda: api.key_fragment(archive.index.seals.check, archive.head.release.version))
    archive.require_fragment(fragment.content)
    require_minimum(archive.head.release, fragment.minimum_serial)
    return fragment.content


def _decrypt(run: UnlockRun, plan: UnlockPlan, delivery: Delivery, fragment: bytes) -> None:
    _unlock.set(UnlockState.DECRYPTING)
    run.progress.reach(0)
    # Each byte that is sent counts twice: when the engine has taken it, and when the engine has unpacked it.
    run.progress.expect(delivery.preparation + 2 * plan.work.to_send)
    delivery.prepare(fragment, run.progress.reach)


def _make_room(run: UnlockRun, plan: UnlockPlan) -> None:
    """Drop the previous release if the plan needs its room: only now, because the archive is authentic."""
    previous = _remembered(run.settings).previous
    if plan.drops_previous and previous is not None:
        log.warning("%s goes, because the disk has no room for it: images back cannot return to it", previous.title)
        run.interrupter.call(lambda: drop_previous(run.engine, previous))


def _load(run: UnlockRun, plan: UnlockPlan, archive: Archive, delivery: Delivery) -> bool:
    """Load the images. Return whether whole layouts were sent instead of the planned ones."""
    _unlock.set(UnlockState.LOADING_IMAGES)
    loading = Loading(run.engine, archive.head, plan.layouts, delivery, plan.bases)

    def patience() -> float:
        return COMMIT_PATIENCE_SECONDS if loading.is_committing else PIECE_PATIENCE_SECONDS

    def reach(done: int) -> None:
        run.progress.expect(delivery.preparation + loading.total)
        run.progress.reach(delivery.preparation + done, loading.activity)

    def load() -> None:
        # Bases are pinned as well, but nothing new gets their names.
        new: dict[str, Iterable[str]] = {base.reference: () for base in plan.bases}
        new |= {image.reference: image.ids for image in archive.head.images}
        remembered, stored = _remembered(run.settings), archive.index.stored
        kept = keep_present(run.engine, remembered, stored)
        new |= kept.guarded
        # The engine may get the layers that were left out after all.
        sent = sum(whole(layout).size for layout in plan.layouts)
        with run.rollback.guard(new, run.engine.patience(sent), remembered.followed_by(stored, remembered.pace)):
            loading.run(reach)
            kept.apply(run.engine)
            run.interrupter.commit()

    run.interrupter.call(load, patience)
    return loading.fell_back


@contextmanager
def _failure_recorded() -> Iterator[None]:
    """Turn an error of the block into the state `error`."""
    try:
        yield
    except LoaderError as exc:
        _unlock.set(UnlockState.ERROR, str(exc), failure=Failure.of(exc))
    except Exception:
        log.exception("unlock failed because of an unexpected error")
        unexpected = LoaderError(UNEXPECTED)
        _unlock.set(UnlockState.ERROR, str(unexpected), failure=Failure.of(unexpected))
