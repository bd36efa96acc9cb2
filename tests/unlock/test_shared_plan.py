"""One plan at a time, which all callers of some seconds share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader import api_client
from loader.docker_engine import DockerEngine, EngineDescription, EngineImage, Store
from loader.errors import ArchiveCorrupt, Busy, LoaderError
from loader.settings import Settings
from loader.unlock import run as unlock
from loader.unlock import shared_plan
from loader.unlock.shared_plan import LASTS_SECONDS, SharedPlan
from loader.unlock_state import UnlockState, _UnlockStateHolder
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.processes import poll

SECONDS = 20.0
APP, OTHER = HandmadeImage("app:1.4"), HandmadeImage("other:1.4")


class CountingEngine(DockerEngine):
    """An empty engine that counts how often it was asked for images, and waits while `slow` is not set."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = 0
        self.slow = threading.Event()
        self.slow.set()

    def find(self, _: str) -> EngineImage | None:
        self.asked += 1
        assert self.slow.wait(SECONDS)
        return None

    def describe(self) -> EngineDescription:
        return EngineDescription(None, Store.CLASSIC, "linux/amd64")

    def refusals(self, _: Store) -> tuple[LoaderError, ...]:
        return ()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(shared_plan, "time", made)
    return made


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> _UnlockStateHolder:
    made = _UnlockStateHolder()
    monkeypatch.setattr(unlock, "_unlock", made)
    return made


@pytest.fixture
def engine() -> Iterator[CountingEngine]:
    made = CountingEngine()
    yield made
    made.slow.set()


@pytest.fixture
def settings(tmp_path: Path, holder: _UnlockStateHolder, clock: Clock) -> Settings:
    """Settings of a device whose archive has one image, with 16 threads."""
    assert holder.state
    assert clock.now
    path = seal(tmp_path / "images.enc", [APP])
    return dataclasses.replace(Settings.from_env({"LOADER_THREADS": "16"}), images_path=path)


@pytest.fixture
def plan(settings: Settings, engine: CountingEngine) -> SharedPlan:
    return SharedPlan(settings, engine)


def test_a_plan_is_shared_for_a_while_and_then_made_again(
    plan: SharedPlan, engine: CountingEngine, clock: Clock
) -> None:
    first = plan.get()
    clock.now += LASTS_SECONDS - 0.1
    assert plan.get() is first
    assert engine.asked == 1
    clock.now += 0.1
    assert plan.get() is not first
    assert engine.asked == 2


def test_callers_at_the_same_time_share_one_plan(plan: SharedPlan, engine: CountingEngine) -> None:
    engine.slow.clear()
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(plan.get) for _ in range(4)]
        poll(lambda: engine.asked == 1, SECONDS, "the engine is asked")
        engine.slow.set()
        assert len({id(call.result(SECONDS)) for call in calls}) == 1
    assert engine.asked == 1


def test_waiting_callers_leave_threads_for_other_requests(plan: SharedPlan, engine: CountingEngine) -> None:
    """Four of sixteen threads may wait; further callers are told at once, and are served afterwards."""
    engine.slow.clear()
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(plan.get) for _ in range(4)]
        poll(lambda: plan._places._value == 0, SECONDS, "four callers wait")
        for _ in range(36):
            with pytest.raises(Busy) as raised:
                plan.get()
            assert raised.value.retry_after > 0
        engine.slow.set()
        for call in calls:
            call.result(SECONDS)
    plan.get()
    assert engine.asked == 1


def test_a_loader_with_one_thread_has_a_plan(settings: Settings, engine: CountingEngine) -> None:
    plan = SharedPlan(dataclasses.replace(settings, threads=1), engine)
    assert plan.get() is plan.get()


@pytest.mark.parametrize("state", [UnlockState.READY, UnlockState.ERROR, UnlockState.LOADING_IMAGES])
def test_a_step_of_an_unlock_ends_the_sharing(plan: SharedPlan, holder: _UnlockStateHolder, state: UnlockState) -> None:
    """So does a step to a record that is equal to the one before."""
    plans = [plan.get()]
    for _ in range(2):
        holder.set(state)
        plans.append(plan.get())
        assert plan.get() is plans[-1]
    assert len(set(map(id, plans))) == 3


def test_a_plan_during_which_an_unlock_ends_is_not_shared(
    plan: SharedPlan, engine: CountingEngine, holder: _UnlockStateHolder
) -> None:
    engine.slow.clear()
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(plan.get)
        poll(lambda: engine.asked == 1, SECONDS, "the engine is asked")
        second = callers.submit(plan.get)
        holder.set(UnlockState.READY)
        engine.slow.set()
        assert first.result(SECONDS) is not second.result(SECONDS)
    assert engine.asked == 2


def test_a_lock_ends_the_sharing(plan: SharedPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "authenticated", lambda: True)
    before = plan.get()
    monkeypatch.setattr(api_client, "authenticated", lambda: False)
    assert plan.get() is not before


def test_another_archive_ends_the_sharing(plan: SharedPlan, settings: Settings, tmp_path: Path) -> None:
    assert [image.reference for image in plan.get().images] == [APP.image.reference]
    seal(tmp_path / "new", [OTHER]).replace(settings.images_path)
    assert [image.reference for image in plan.get().images] == [OTHER.image.reference]


def test_an_error_is_not_shared(plan: SharedPlan, settings: Settings, tmp_path: Path) -> None:
    good = settings.images_path.read_bytes()
    settings.images_path.write_bytes(b"no archive")
    for _ in range(5):  # a caller that gets an error gives its place back
        with pytest.raises(ArchiveCorrupt):
            plan.get()
    (tmp_path / "new").write_bytes(good)
    (tmp_path / "new").replace(settings.images_path)
    assert plan.get().images
