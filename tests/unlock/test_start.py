"""How an unlock starts, and how it is told to end: what no device does on demand."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import Interrupted
from loader.login_throttle import LoginAttempt, LoginThrottle
from loader.settings import Settings
from loader.unlock.interruptible import Interrupter
from loader.unlock.progress import UnlockProgress
from loader.unlock_state import STEPS, ArchiveIdentity, UnlockState, _UnlockStateHolder

# Not `from loader import unlock`: the package knows the blueprint of that name.
unlock = importlib.import_module("loader.unlock.run")
ARCHIVE = ArchiveIdentity(device=1, inode=2, size=3, modified_ns=4)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> _UnlockStateHolder:
    """The module's, new; what tells runs to end is left as it was found."""
    made = _UnlockStateHolder()
    monkeypatch.setattr(unlock, "_unlock", made)
    monkeypatch.setattr(unlock, "_interrupter", Interrupter())
    monkeypatch.setattr(unlock, "_told_to_stop", False)
    return made


def not_asked() -> LoginAttempt:
    """Nobody is to be admitted where there is no run to start."""
    raise AssertionError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Without an archive."""
    return dataclasses.replace(Settings.from_env({}), images_path=tmp_path / "images.enc", model_cache_dir=tmp_path)


def test_a_run_that_begins_while_the_images_are_looked_up_is_not_overwritten(
    holder: _UnlockStateHolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive appears, and somebody else unlocks it."""
    monkeypatch.setattr(
        unlock,
        "require_images_without_archive",
        lambda *_: holder.try_start(ARCHIVE, UnlockProgress(STEPS), lambda: None),
    )
    assert unlock.start_unlock(settings, DockerEngine(1), "e", "p", not_asked) is UnlockState.AUTHENTICATING
    assert holder.state is UnlockState.AUTHENTICATING


def test_a_start_without_a_run_needs_no_login(
    holder: _UnlockStateHolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlock, "require_images_without_archive", lambda *_: None)
    assert unlock.start_unlock(settings, DockerEngine(1), "e", "p", not_asked) is UnlockState.READY
    assert holder.state is UnlockState.READY


@pytest.mark.usefixtures("holder")
def test_an_interrupt_ends_one_run_and_a_stop_ends_every_run() -> None:
    unlock.interrupt()
    with pytest.raises(Interrupted, match="because the loader was locked"):
        unlock._interrupter.checkpoint()
    unlock._renew_interrupter()
    unlock._interrupter.checkpoint()
    unlock.stop()
    unlock._renew_interrupter()
    with pytest.raises(Interrupted, match="because the loader was told to stop"):
        unlock._interrupter.checkpoint()


@pytest.mark.usefixtures("holder")
def test_a_login_that_is_left_behind_is_not_wanted_even_in_the_next_run() -> None:
    asked: list[Callable[[], None]] = []

    class Api:
        """Its login takes longer than the run."""

        def login(self, _email: str, _password: str, checkpoint: Callable[[], None]) -> None:
            asked.append(checkpoint)

    unlock._log_in(Api(), "e", "p", LoginThrottle().begin(""))
    asked[0]()
    unlock.interrupt()
    unlock._renew_interrupter()
    with pytest.raises(Interrupted):
        asked[0]()
