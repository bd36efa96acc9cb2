"""The unlock: from an encrypted archive, a login and a key fragment to images in the engine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from loader import logs
from loader.api_client import get_api_client
from loader.binary_split import identify, open_archive
from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine
from loader.errors import LoaderError
from loader.login_throttle import LoginAttempt
from loader.settings import Settings
from loader.unlock.delivery import TarDelivery, remove_tar, tar_delivery
from loader.unlock.images import load_images
from loader.unlock.interruptible import Interrupter
from loader.unlock.plan import UnlockPlan, make_plan, require_images_without_archive, require_room
from loader.unlock.progress import ProgressReport, UnlockProgress
from loader.unlock.remembered import remember_manifest, remove_half_remembered
from loader.unlock_state import AT_REST, STEPS, Failure, UnlockRecord, UnlockState, _UnlockStateHolder

if TYPE_CHECKING:
    from loader.api_client.client import ApiClient

log = logging.getLogger(__name__)

# What the engine may take when the loader is told to stop: to finish once it has the whole tar, which is less than the
# grace period; and before, to take the piece that is on its way, after which the load ends and is tidied up.
COMMIT_PATIENCE_SECONDS = 10.0
PIECE_PATIENCE_SECONDS = 2.0

_unlock = _UnlockStateHolder()
# That of the run that lives, or of the last one: to interrupt a run does not touch the next.
_interrupter = Interrupter()
_told_to_stop = False


def unlock_status() -> tuple[UnlockRecord, ProgressReport | None]:
    """Where the unlock of this process stands, and how far it is."""
    return _unlock.snapshot()


def stop() -> None:
    """Let a running unlock, and every later one, end soon, as INTERRUPTED. Called when the process is told to end."""
    global _told_to_stop
    _told_to_stop = True
    _interrupter.stop("the loader was told to stop")


def interrupt() -> None:
    """Let a running unlock end soon, as INTERRUPTED. Called when the loader is locked."""
    _interrupter.stop("the loader was locked")


def start_unlock(
    settings: Settings, engine: DockerEngine, email: str, password: str, admit: Callable[[], LoginAttempt]
) -> UnlockState:
    """Start a run unless one lives or its work is already done; the state afterwards.

    `admit` lets the login of a run begin, or raises; it is not asked where there is no run to start. Without an archive
    the images that are expected decide: `ready`, or ArchiveNotFound.
    """
    if _unlock.state not in AT_REST:
        return _unlock.state
    archive = identify(settings.images_path)
    if archive is None:
        require_images_without_archive(settings, engine)
        return _unlock.try_ready()
    again = _unlock.is_ready_for(archive) and _are_lost(settings, engine)
    if started := _unlock.try_start(archive, UnlockProgress(STEPS), admit, again=again):
        progress, attempt = started
        _renew_interrupter()
        arguments = (settings, engine, email, password, attempt, progress, logs.current_request_id())
        threading.Thread(target=_run_audited, args=arguments, name="unlock").start()
    return _unlock.state


def _are_lost(settings: Settings, engine: DockerEngine) -> bool:
    """Whether images of the archive have been removed since. An engine that does not answer at once tells nothing."""
    try:
        engine.ping()
        with open_archive(settings.images_path) as archive:
            return not engine.holds(archive.manifest.images)
    except LoaderError:
        return False


def _renew_interrupter() -> None:
    global _interrupter
    _interrupter = Interrupter()
    if _told_to_stop:
        stop()


def plan_unlock(settings: Settings, engine: DockerEngine) -> UnlockPlan:
    """What an unlock would do now. Changes nothing. Raises ArchiveNotFound, ArchiveCorrupt, StorageError."""
    with open_archive(settings.images_path) as archive:
        return make_plan(settings, engine, archive)


def remove_leftover(settings: Settings) -> None:
    """Remove what an earlier process, killed in the middle, has left, plaintext above all. Never raises."""
    remove_tar(settings.tar_path)
    remove_half_remembered(settings.model_cache_dir)


def _run_audited(
    settings: Settings,
    engine: DockerEngine,
    email: str,
    password: str,
    attempt: LoginAttempt,
    progress: UnlockProgress,
    request_id: str | None,
) -> None:
    with logs.request_id(request_id), closing(attempt):
        started = time.monotonic()
        _run_unlock(settings, engine, email, password, attempt, progress)
        record, _ = _unlock.snapshot()
        logs.audit(
            "unlock",
            "ok" if record.state is UnlockState.READY else "failed",
            code=record.failure.code if record.failure is not None and record.state is UnlockState.ERROR else None,
            file=str(settings.images_path),
            size=record.archive.size if record.archive else None,
            seconds=time.monotonic() - started,
        )


def _run_unlock(
    settings: Settings, engine: DockerEngine, email: str, password: str, attempt: LoginAttempt, progress: UnlockProgress
) -> None:
    """The seven steps. Ends in `ready` or in `error`, never with an exception."""
    _, prior_error = _unlock.get()
    with _failure_recorded(), open_archive(settings.images_path) as archive:
        manifest, api = archive.manifest, get_api_client()
        progress.expect(manifest.tar_size)
        archive.require_version(settings.api_version)
        if engine.holds(manifest.images):
            _unlock.set(UnlockState.READY, prior_error, archive=archive.identity)
            return
        require_room(make_plan(settings, engine, archive))
        _unlock.set(UnlockState.AUTHENTICATING)
        _log_in(api, email, password, attempt)
        _unlock.set(UnlockState.DOWNLOADING_KEY)
        fragment = _interrupter.call(api.key_fragment)
        archive.require_fragment(fragment)
        with tar_delivery(settings, archive, _interrupter.checkpoint) as delivery:
            _unlock.set(UnlockState.DECRYPTING)
            delivery.authenticate(fragment, progress.reach)
            del fragment
            _unlock.set(UnlockState.LOADING_IMAGES)
            _load(engine, manifest.images, delivery, progress)
        remember_manifest(settings.model_cache_dir, manifest)
        _unlock.set(UnlockState.READY, archive=archive.identity)


def _log_in(api: ApiClient, email: str, password: str, attempt: LoginAttempt) -> None:
    # The run's own: a login that is left behind may end after the next run has begun.
    checkpoint = _interrupter.checkpoint

    def log_in() -> None:
        with attempt:
            api.login(email, password, checkpoint)

    _interrupter.call(log_in)


def _load(
    engine: DockerEngine, images: tuple[ManifestImage, ...], delivery: TarDelivery, progress: UnlockProgress
) -> None:
    reached = 0

    def reach(done: int) -> None:
        nonlocal reached
        reached = done
        progress.reach(delivery.size + done)

    def patience() -> float:
        return COMMIT_PATIENCE_SECONDS if reached >= delivery.size else PIECE_PATIENCE_SECONDS

    _interrupter.call(lambda: load_images(engine, images, delivery, reach), patience)


@contextmanager
def _failure_recorded() -> Iterator[None]:
    try:
        yield
    except LoaderError as exc:
        log.warning("unlock failed: %s", exc)
        _unlock.set(UnlockState.ERROR, str(exc), failure=Failure.of(exc))
    except Exception:
        log.exception("unlock failed for a reason that nobody foresaw")
        unforeseen = LoaderError("The loader itself failed; its log says why.")
        _unlock.set(UnlockState.ERROR, str(unforeseen), failure=Failure.of(unforeseen))
