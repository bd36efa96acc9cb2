"""The unlock: from an encrypted archive, a login and a key fragment to images in the engine."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

from loader import logs
from loader.api_client import get_api_client
from loader.binary_split import Archive, identify, open_archive, write_tar
from loader.crypto.archive import Manifest, ManifestImage
from loader.docker_engine import DockerEngine
from loader.errors import (
    ArchiveNotFound,
    CorruptCiphertext,
    EngineStalled,
    Interrupted,
    LoaderError,
)
from loader.files import FilePieces, make_private_directory, storage, write_whole
from loader.settings import Settings
from loader.unlock_state import AT_REST, UnlockRecord, UnlockState, _UnlockStateHolder

log = logging.getLogger(__name__)

REMEMBERED_MANIFEST = "unlocked-manifest.json"
STOP_CHECK_SECONDS = 0.2

_unlock = _UnlockStateHolder()
_stop = threading.Event()


def unlock_record() -> UnlockRecord:
    """Where the unlock of this process stands."""
    return _unlock.record()


def stop() -> None:
    """Let a running unlock end at its next segment, as INTERRUPTED. Called when the process is told to end."""
    _stop.set()


def start_unlock(settings: Settings, engine: DockerEngine, email: str, password: str) -> UnlockState:
    """Start a run unless one lives or its work is already done; the state afterwards.

    Without an archive the images that are expected decide: `ready`, or ArchiveNotFound.
    """
    if _unlock.state not in AT_REST:
        return _unlock.state
    archive = identify(settings.images_path)
    if archive is None:
        _require_images_without_archive(settings, engine)
        _unlock.set(UnlockState.READY)
    elif _unlock.try_start(archive):
        arguments = (settings, engine, email, password, logs.current_request_id())
        threading.Thread(target=_run_logged, args=arguments, name="unlock").start()
    return _unlock.state


def remove_leftover(settings: Settings) -> None:
    """Remove the plaintext that an earlier process, killed in the middle, has left. Never raises."""
    _remove_tar(settings)


def _run_logged(settings: Settings, engine: DockerEngine, email: str, password: str, request_id: str | None) -> None:
    with logs.request_id(request_id):
        started = time.monotonic()
        _run_unlock(settings, engine, email, password)
        record = _unlock.record()
        logs.audit(
            "unlock",
            "ok" if record.state is UnlockState.READY else "failed",
            code=record.code,
            file=str(settings.images_path),
            size=record.archive.size if record.archive else None,
            seconds=time.monotonic() - started,
        )


def _run_unlock(settings: Settings, engine: DockerEngine, email: str, password: str) -> None:
    """The seven steps. Ends in `ready` or in `error`, never with an exception."""
    _, prior_error = _unlock.get()
    with _failures_recorded(), open_archive(settings.images_path) as archive:
        archive.require_version(settings.api_version)
        if engine.holds(archive.manifest.images):
            _unlock.set(UnlockState.READY, prior_error, archive=archive.identity)
            return
        _unlock.set(UnlockState.AUTHENTICATING)
        get_api_client().login(email, password)
        _unlock.set(UnlockState.DOWNLOADING_KEY)
        fragment = get_api_client().key_fragment()
        archive.require_fragment(fragment)
        with _tar_removed_afterwards(settings):
            _unlock.set(UnlockState.DECRYPTING)
            write_tar(archive, fragment, settings.tar_path, _checkpoint)
            del fragment
            _unlock.set(UnlockState.LOADING_IMAGES)
            _load_images(settings, engine, archive)
        _remember(settings, archive.manifest)
        _unlock.set(UnlockState.READY, archive=archive.identity)


@contextmanager
def _failures_recorded() -> Iterator[None]:
    try:
        yield
    except LoaderError as exc:
        log.warning("unlock failed: %s", exc)
        _unlock.set(UnlockState.ERROR, str(exc), code=exc.code)
    except Exception:
        log.exception("unlock failed for a reason that nobody foresaw")
        _unlock.set(UnlockState.ERROR, "The loader itself failed; its log says why.", code=LoaderError.code)


def _checkpoint() -> None:
    if _stop.is_set():
        raise Interrupted("The unlock was interrupted because the loader was told to stop.")


def _load_images(settings: Settings, engine: DockerEngine, archive: Archive) -> None:
    images = archive.manifest.images
    with storage(settings.tar_path, 0):
        tar = settings.tar_path.open("rb", buffering=0)
    with tar:
        try:
            _unless_told_to_stop(lambda: engine.load(FilePieces(tar, settings.tar_path, _checkpoint)))
        except EngineStalled:
            # An engine that fell silent may have finished all the same: its state decides, not the clock.
            if not engine.holds(images):
                raise
    engine.verify(images)


def _unless_told_to_stop(work: Callable[[], None]) -> None:
    """Do `work`, or abandon it when the loader is told to stop.

    An engine may take no byte and say no word for as long as ENGINE_TIMEOUT. Nobody waits that long for a process to
    end: it would be killed, and leave the tar behind.
    """
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            work()
            outcome.set_result(None)
        except BaseException as exc:  # noqa: BLE001  # raised again below, in the thread that waits
            outcome.set_exception(exc)

    threading.Thread(target=run, name="unlock-load", daemon=True).start()
    while not wait([outcome], STOP_CHECK_SECONDS).done:
        _checkpoint()
    outcome.result()


@contextmanager
def _tar_removed_afterwards(settings: Settings) -> Iterator[None]:
    _remove_tar(settings)
    try:
        yield
    finally:
        _remove_tar(settings)


def _remove_tar(settings: Settings) -> None:
    try:
        settings.tar_path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("the decrypted %s could not be removed: %s", settings.tar_path, exc.strerror)


def _remember(settings: Settings, manifest: Manifest) -> None:
    """Keep the manifest for the day when the archive is gone. To fail here must not undo an unlock."""
    path = settings.model_cache_dir / REMEMBERED_MANIFEST
    try:
        make_private_directory(path.parent)
        write_whole(path, json.dumps(manifest.document()).encode())
    except OSError as exc:
        log.warning("the manifest could not be remembered at %s: %s", path, exc.strerror)


def _require_images_without_archive(settings: Settings, engine: DockerEngine) -> None:
    remembered = _remembered_images(settings)
    if remembered:
        present = engine.holds(remembered)
    else:
        references = settings.expected_references
        present = bool(references) and all(engine.find(reference) is not None for reference in references)
    if not present:
        raise ArchiveNotFound(f"There is no archive at {settings.images_path}, and its images are not in the engine.")


def _remembered_images(settings: Settings) -> tuple[ManifestImage, ...]:
    path = settings.model_cache_dir / REMEMBERED_MANIFEST
    try:
        document = json.loads(path.read_bytes())
        return Manifest.parse(document if isinstance(document, dict) else {}).images
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
        log.warning("the remembered manifest %s cannot be used: %s", path, exc)
        return ()
