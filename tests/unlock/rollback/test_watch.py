"""Loads that go on in the engine after their unlock has failed: whatever they move is moved back."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from loader.errors import Busy, EngineRejected, EngineStalled, EngineUnavailable, StorageError
from loader.unlock.journal import PINS
from loader.unlock.rollback import Rollback
from tests.support.processes import poll
from tests.unlock.rollback.device import ENDLESS, NEW, WAIT_SECONDS, Device
from tests.unlock.rollback.engine_of_names import (
    FOREIGN,
    REFERENCES,
    Inventory,
    Killed,
    engine_with,
    gone,
    image_id,
)

# Long enough for a busy machine, within which a test lets the load of an earlier unlock end.
WATCH_SECONDS = 2.0
LOADED = [(REFERENCES[0], image_id(8))]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device whose engine drops images without a name. It has an image under the first name only."""
    return Device(engine_with([image_id(1), None, None], forgets=True), tmp_path)


def timed_out() -> EngineUnavailable:
    """Return the error of a query that an engine did not respond to in time, because a load keeps it busy."""
    error = EngineUnavailable("The Docker engine does not respond: no response in time.")
    error.__cause__ = TimeoutError("timed out")
    return error


def watches() -> set[threading.Thread]:
    """Return the threads that watch an engine, or wait for one."""
    return {thread for thread in threading.enumerate() if thread.name == "rollback"}


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("cut")], ids=repr)
def test_a_load_that_ends_after_its_connection_is_undone_too(device: Device, fault: Exception) -> None:
    before = device.engine.inventory()
    with pytest.raises(type(fault)):
        device.unlock(LOADED, fault, WATCH_SECONDS)
    assert device.engine.names[REFERENCES[0]] == image_id(1)
    for name in REFERENCES:
        device.engine.put(name, image_id(8))
    device.wait()
    assert device.engine.inventory() == before


@pytest.mark.parametrize("fault", [timed_out(), gone()], ids=["late", "away"])
def test_an_engine_that_does_not_respond_is_watched_as_long(device: Device, fault: EngineUnavailable) -> None:
    """It may be busy with the load, or only the way to it was cut."""
    before = device.engine.inventory()
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    device.engine.calls_left, device.engine.ends_with = 0, fault
    poll(lambda: device.engine.calls_refused > 0, WAIT_SECONDS, "the watch has met the fault")
    device.engine.calls_left = ENDLESS
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_an_engine_that_comes_back_is_restored_in_the_background(device: Device) -> None:
    before = device.engine.inventory()
    with pytest.raises(EngineUnavailable):
        device.unlock(LOADED, gone())
    assert device.journal.exists()
    device.engine.calls_left = ENDLESS
    device.wait()
    assert device.engine.inventory() == before


def test_a_new_process_watches_as_long_as_the_killed_one_would_have(device: Device) -> None:
    before = device.engine.inventory()
    device.kill(LOADED, WATCH_SECONDS)
    device.rollback.recover_in_background()
    poll(lambda: device.engine.names[REFERENCES[0]] == image_id(1), WAIT_SECONDS, "the name is restored")
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_the_next_unlock_does_not_end_the_watch(device: Device) -> None:
    """The load of the first unlock ends during the second one, and again after that has failed."""
    before = device.engine.inventory()
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    device.recover()
    device.engine.put(*LOADED[0])
    with pytest.raises(EngineRejected):
        device.unlock([], EngineRejected("no"))
    assert device.engine.names[REFERENCES[0]] == image_id(1)
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_an_unlock_of_other_images_does_not_end_the_watch(device: Device) -> None:
    before = device.engine.inventory()
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    with pytest.raises(EngineRejected), device.guarded(REFERENCES[1:]):
        raise EngineRejected("no")
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_the_watch_of_an_earlier_unlock_does_not_end_that_of_a_later_one(device: Device) -> None:
    before, others = device.engine.inventory(), watches()
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), 0.1)
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    poll(lambda: len(watches() - others) == 1, WATCH_SECONDS / 2, "the earlier watch has ended")
    assert device.journal.exists()
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_a_success_ends_the_watch(device: Device) -> None:
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), 600.0)
    device.unlock(LOADED)
    device.wait()
    assert device.engine.names[REFERENCES[0]] == image_id(8)
    assert image_id(1) not in device.engine.images


def test_an_unlock_that_leaves_nothing_to_be_undone_needs_no_thread(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    device.unlock(LOADED)
    with pytest.raises(EngineRejected):
        device.unlock(LOADED, EngineRejected("no"))
    assert not device.journal.exists()


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
def test_a_load_that_ends_after_the_success_of_other_images_under_its_names_is_undone(
    device: Device, killed: bool
) -> None:
    """It is killed at the first pin that is to go; else the watch goes on in the same process."""
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    others = dict(zip(REFERENCES, map(image_id, [4, 5, 6]), strict=True))
    with suppress(Killed), device.rollback.guard({name: [new] for name, new in others.items()}, 0.0):
        for name, new in others.items():
            device.engine.put(name, new)
        device.engine.calls_left = 0 if killed else ENDLESS
    if killed:
        device.engine.calls_left = ENDLESS
        device.rollback.recover_in_background()
        poll(lambda: pinned(device) == set(others.values()), WAIT_SECONDS, "the proven images are pinned")
    device.engine.put(*LOADED[0])
    device.wait()
    names = {FOREIGN: image_id(7), **others}
    assert device.engine.inventory() == Inventory(names, frozenset(names.values()))


def pinned(device: Device) -> set[str]:
    return {image for name, image in device.engine.inventory().names.items() if name.startswith(PINS)}


@pytest.mark.parametrize("when", ["during", "after"])
def test_a_success_of_other_images_does_not_end_the_watch(device: Device, when: str) -> None:
    before = device.engine.inventory().names
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    with device.guarded(REFERENCES[1:]):
        device.engine.put(REFERENCES[1], image_id(9))
        if when == "during":
            device.engine.put(*LOADED[0])
    assert device.journal.exists()
    if when == "after":
        device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory().names == {**before, REFERENCES[1]: image_id(9)}


@pytest.mark.parametrize("reference", REFERENCES[:2], ids=["there was one", "there was none"])
def test_what_somebody_loads_during_the_watch_survives_the_next_failure(device: Device, reference: str) -> None:
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)
    device.engine.put(reference, image_id(5))
    with pytest.raises(EngineRejected):
        device.unlock([(reference, image_id(9))], EngineRejected("no"))
    assert device.engine.names[reference] == image_id(5)
    device.wait()
    assert device.engine.names[reference] == image_id(5)


def test_a_journal_that_cannot_be_synced_does_not_end_the_watch(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = device.engine.inventory()
    with pytest.raises(EngineStalled):
        device.unlock(LOADED, EngineStalled("silent"), WATCH_SECONDS)

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("loader.files.sync_directory", fail)
        with pytest.raises(StorageError):
            device.unlock([])
    device.engine.put(*LOADED[0])
    device.wait()
    assert device.engine.inventory() == before


def test_what_an_earlier_load_may_just_have_brought_does_not_count(device: Device) -> None:
    device.kill(LOADED, 600.0)
    assert device.recover() == {(name, new) for name in REFERENCES for new in NEW}
    device.unlock([])
    assert device.recover() == frozenset()


def test_a_caller_that_will_not_wait_is_told_that_a_run_is_active(device: Device) -> None:
    def refuse() -> None:
        raise Busy("another run is active", 1)

    with device.guarded(), pytest.raises(Busy):
        device.rollback.recover(refuse)


def test_the_same_fault_is_told_once(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.kill(LOADED)
    device.engine.calls_left, device.engine.ends_with = 0, EngineRejected("a proxy forbids it")
    Rollback(device.engine, device.directory).recover_in_background()
    poll(lambda: device.engine.calls_refused >= 5, WAIT_SECONDS, "it was tried again and again")
    device.engine.calls_left = ENDLESS
    device.wait()
    assert [message for message in caplog.messages if "a proxy forbids it" in message] == [
        "what an unlock has changed in the engine cannot be undone yet: a proxy forbids it"
    ]
