"""How an unlock starts and how it is interrupted, without a device."""

from __future__ import annotations

import dataclasses
import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable, Interrupted, LoginRejected, LoginThrottled
from loader.files import FileIdentity
from loader.login_throttle import LoginThrottle
from loader.logs import Origin
from loader.settings import Settings
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from loader.unlock.run import Credentials, UnlockRun
from loader.unlock_state import STEPS, UnlockState, _UnlockStateHolder
from tests.support.handmade_image import HandmadeImage, seal

# Not `from loader.unlock import run`, because tests replace the state in the module.
unlock = importlib.import_module("loader.unlock.run")
ARCHIVE = FileIdentity(device=1, inode=2, size=3, modified_ns=4)
CREDENTIALS = Credentials("192.0.2.7", "operator@example.com", "a password")
CALLERS = 50
WAIT_SECONDS = 30


class AbsentEngine(DockerEngine):
    """An engine that does not respond."""

    def ping(self) -> None:
        raise EngineUnavailable("The Docker engine does not respond.")


class UnusedThrottle(LoginThrottle):
    """A throttle that fails the test if it is asked."""

    def __init__(self) -> None:
        super().__init__(16)

    def require_no_wait(self, address: str) -> None:
        raise AssertionError(address)


class SlowThrottle(LoginThrottle):
    """A throttle that gives other callers time to start a second run."""

    def require_no_wait(self, address: str) -> None:
        time.sleep(0.05)
        super().require_no_wait(address)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> _UnlockStateHolder:
    """Replace the state of the module, and restore it after the test."""
    made = _UnlockStateHolder()
    monkeypatch.setattr(unlock, "_unlock", made)
    monkeypatch.setattr(unlock, "_interrupter", Interrupter())
    monkeypatch.setattr(unlock, "_told_to_stop", False)
    return made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[UnlockRun]:
    """Collect the runs that start instead of running them."""
    started: list[UnlockRun] = []
    monkeypatch.setattr(unlock, "_run_audited", lambda run, _: started.append(run))
    return started


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a device without an archive."""
    return dataclasses.replace(Settings.from_env({}), images_path=tmp_path / "images.enc", model_cache_dir=tmp_path)


@pytest.fixture
def with_archive(settings: Settings) -> Settings:
    """Settings of a device with an archive."""
    seal(settings.images_path, [HandmadeImage("app:1.4")])
    return settings


def start(settings: Settings, throttle: LoginThrottle) -> UnlockState:
    state: UnlockState = unlock.start_unlock(settings, AbsentEngine(1), throttle, CREDENTIALS).record.state
    return state


def test_a_run_that_starts_during_the_lookup_of_images_is_not_overwritten(
    holder: _UnlockStateHolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive appears, and another caller unlocks it."""
    monkeypatch.setattr(unlock, "require_images_without_archive", lambda *_: holder.start(UnlockProgress(STEPS)))
    assert start(settings, UnusedThrottle()) is UnlockState.AUTHENTICATING
    assert holder.state is UnlockState.AUTHENTICATING


def test_ready_without_a_run_needs_no_login(
    holder: _UnlockStateHolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlock, "require_images_without_archive", lambda *_: False)
    assert start(settings, UnusedThrottle()) is UnlockState.READY
    assert holder.state is UnlockState.READY


def test_only_a_caller_that_starts_a_run_asks_the_throttle(
    holder: _UnlockStateHolder, with_archive: Settings, runs: list[UnlockRun]
) -> None:
    throttle = LoginThrottle(16)
    assert start(with_archive, throttle) is UnlockState.AUTHENTICATING
    assert [run.throttle for run in runs] == [throttle]
    assert start(with_archive, UnusedThrottle()) is UnlockState.AUTHENTICATING
    holder.set(UnlockState.READY, archive=unlock.identify(with_archive.images_path))
    assert start(with_archive, UnusedThrottle()) is UnlockState.READY
    assert len(runs) == 1


def test_a_throttled_caller_starts_nothing_and_keeps_the_error(
    holder: _UnlockStateHolder, with_archive: Settings, runs: list[UnlockRun]
) -> None:
    holder.set(UnlockState.ERROR, "as before")
    now = 1000.0
    throttle = LoginThrottle(16, lambda: now)
    reject(throttle, times=5)
    with pytest.raises(LoginThrottled):
        start(with_archive, throttle)
    assert holder.get() == (UnlockState.ERROR, "as before")
    assert runs == []
    now += 10
    assert start(with_archive, throttle) is UnlockState.AUTHENTICATING
    assert len(runs) == 1


@pytest.mark.usefixtures("holder")
def test_a_system_without_a_thread_for_the_run_ends_it(with_archive: Settings, runs: list[UnlockRun]) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert start(with_archive, LoginThrottle(16)) is UnlockState.ERROR
    assert start(with_archive, LoginThrottle(16)) is UnlockState.AUTHENTICATING
    assert len(runs) == 1


def reject(throttle: LoginThrottle, times: int) -> None:
    """Let the API reject this many logins of the client of CREDENTIALS."""
    for _ in range(times):
        with suppress(LoginRejected), throttle.login(CREDENTIALS.client, CREDENTIALS.email):
            raise LoginRejected("Wrong.")


@pytest.mark.usefixtures("holder")
def test_of_many_callers_exactly_one_starts_a_run(with_archive: Settings, runs: list[UnlockRun]) -> None:
    throttle = SlowThrottle(16)
    barrier = threading.Barrier(CALLERS)

    def call(_: int) -> UnlockState:
        barrier.wait(WAIT_SECONDS)
        return start(with_archive, throttle)

    with ThreadPoolExecutor(CALLERS) as pool:
        states = list(pool.map(call, range(CALLERS)))
    assert states == [UnlockState.AUTHENTICATING] * CALLERS
    assert len(runs) == 1


@pytest.mark.usefixtures("holder")
def test_an_interrupt_ends_one_run_and_a_stop_ends_every_run() -> None:
    unlock.interrupt()
    with pytest.raises(Interrupted, match="because the loader was locked"):
        unlock._interrupter.checkpoint()
    unlock._new_interrupter()
    unlock._interrupter.checkpoint()
    unlock.stop()
    unlock._new_interrupter()
    with pytest.raises(Interrupted, match="because the loader was told to stop"):
        unlock._interrupter.checkpoint()


class Api:
    """An API whose login may be called later than the run ends."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.checkpoints: list[Callable[[], None]] = []
        self._outcome = outcome

    def login(self, _email: str, _password: str, checkpoint: Callable[[], None]) -> None:
        self.checkpoints.append(checkpoint)
        if self._outcome is not None:
            raise self._outcome


def new_run(settings: Settings, throttle: LoginThrottle) -> UnlockRun:
    progress = UnlockProgress(STEPS)
    interrupter = unlock._new_interrupter()
    return UnlockRun(settings, DockerEngine(1), CREDENTIALS, throttle, progress, interrupter)


@pytest.mark.usefixtures("holder")
def test_the_checkpoint_of_a_login_that_was_left_behind_belongs_to_its_own_run(settings: Settings) -> None:
    api = Api()
    unlock._log_in(new_run(settings, LoginThrottle(16)), api)
    (checkpoint,) = api.checkpoints
    checkpoint()
    unlock.interrupt()
    unlock._new_interrupter()
    with pytest.raises(Interrupted):
        checkpoint()


@pytest.mark.usefixtures("holder")
def test_a_rejected_login_of_an_interrupted_run_counts_even_after_the_run(settings: Settings) -> None:
    throttle = LoginThrottle(16)
    for _ in range(5):
        with pytest.raises(LoginRejected):
            unlock._log_in(new_run(settings, throttle), Api(LoginRejected("Wrong.")))
    with pytest.raises(LoginThrottled):
        throttle.require_no_wait(CREDENTIALS.client)


@pytest.mark.usefixtures("holder")
def test_a_run_that_ends_before_its_login_does_not_count(settings: Settings) -> None:
    """The archive is missing, so that each run ends at once."""
    throttle = LoginThrottle(16)
    for _ in range(6):
        unlock._run_audited(new_run(settings, throttle), Origin.current())
        assert unlock.unlock_status()[0].state is UnlockState.ERROR
    throttle.require_no_wait(CREDENTIALS.client)


def test_a_run_shows_neither_email_nor_password(settings: Settings) -> None:
    shown = repr(new_run(settings, LoginThrottle(16)))
    assert "operator@example.com" not in shown
    assert "a password" not in shown
