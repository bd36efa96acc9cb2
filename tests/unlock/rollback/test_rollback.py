"""What an engine holds after an unlock that failed, that was killed at any step, or that ended well."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.errors import DiskSpace, EngineRejected, EngineStalled, ImageMismatch, StorageError
from loader.unlock.journal import PINS, JournalFile
from tests.unlock.rollback.device import ENDLESS, NEW, Device
from tests.unlock.rollback.engine_of_names import (
    FOREIGN,
    REFERENCES,
    EngineOfNames,
    Inventory,
    Killed,
    engine_with,
    gone,
    image_id,
)

former = st.lists(st.sampled_from([None, image_id(1), image_id(2)]), min_size=3, max_size=3)
changes = st.lists(
    st.tuples(st.sampled_from(REFERENCES), st.sampled_from([image_id(8), image_id(9)])), unique_by=lambda move: move[0]
)


def pins(inventory: Inventory) -> list[str]:
    return [name for name in inventory.names if name.startswith(PINS)]


@settings(max_examples=60, deadline=None)
@given(former, changes, st.booleans(), st.booleans(), st.integers(0, 30))
def test_a_kill_at_any_call_leaves_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[str | None],
    moved: list[tuple[str, str]],
    forgets: bool,
    used: bool,
    calls: int,
) -> None:
    device = Device(engine_with(images, forgets=forgets, used=used), tmp_path_factory.mktemp("rollback"))
    engine, before = device.engine, device.engine.inventory()
    engine.calls_left = calls
    ended = False
    with suppress(Killed):
        device.unlock(moved)
        ended = True
    after = dict(before.names) | dict(moved)
    journal = JournalFile(device.directory).read()
    proven = ended or (journal is not None and journal.proven)
    device.start()

    now = engine.inventory()
    if not proven:
        assert now == before
    else:
        assert now.names == after
        assert now.images == set(after.values()) | engine.used
    assert pins(now) == []


@settings(max_examples=60, deadline=None)
@given(former, changes, changes, st.booleans(), st.booleans(), st.integers(0, 30))
def test_kills_of_one_unlock_after_another_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[str | None],
    moved: list[tuple[str, str]],
    moved_then: list[tuple[str, str]],
    forgets: bool,
    used: bool,
    calls: int,
) -> None:
    """The second unlock begins before anything of the first is undone, or is killed while it undoes that."""
    device = Device(engine_with(images, forgets=forgets, used=used), tmp_path_factory.mktemp("rollback"))
    engine, before = device.engine, device.engine.inventory()
    device.kill(moved)
    engine.calls_left = calls
    with suppress(Killed):
        device.recover()
        device.unlock(moved_then, Killed())
    device.start()
    assert engine.inventory() == before


@pytest.mark.parametrize("fault", [EngineRejected("no"), ImageMismatch("other"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("forgets", [False, True])
def test_a_failure_restores_at_once(tmp_path: Path, fault: BaseException, forgets: bool) -> None:
    device = Device(engine_with([image_id(1), image_id(2), None], forgets=forgets), tmp_path)
    before = device.engine.inventory()
    with pytest.raises(type(fault)):
        device.unlock([(name, image_id(8)) for name in REFERENCES], fault, watch_seconds=60.0)
    assert device.engine.inventory() == before
    assert not device.journal.exists()


@pytest.mark.parametrize("reference", REFERENCES[:2], ids=["there was one", "there was none"])
def test_an_image_that_somebody_loads_during_an_unlock_survives_its_failure(tmp_path: Path, reference: str) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    with pytest.raises(EngineRejected):
        device.unlock([(REFERENCES[2], image_id(8)), (reference, image_id(5))], EngineRejected("no"))
    device.wait()
    names = {REFERENCES[0]: image_id(1), FOREIGN: image_id(7), reference: image_id(5)}
    assert device.engine.inventory() == Inventory(names, frozenset(names.values()))


@pytest.mark.parametrize("fault", [DiskSpace("full"), EngineRejected("no")], ids=repr)
def test_a_fault_at_one_name_keeps_no_other_name_from_being_restored(tmp_path: Path, fault: Exception) -> None:
    device = Device(engine_with([image_id(1), image_id(2), None]), tmp_path)
    before = device.engine.inventory()
    device.kill([(name, image_id(8)) for name in REFERENCES])
    device.engine.refused = {REFERENCES[0]: fault}
    with pytest.raises(type(fault)):
        device.recover()
    names = device.engine.inventory().names
    assert (names[REFERENCES[1]], REFERENCES[2] in names) == (image_id(2), False)
    device.engine.refused = {}
    device.start()
    assert device.engine.inventory() == before


def test_an_image_that_somebody_has_removed_meanwhile_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    device.kill([])
    for name in [name for name, image in device.engine.names.items() if image == image_id(1)]:
        device.engine.remove_name(name)
    device.start()
    assert [("that is gone" in message) for message in caplog.messages] == [True]
    assert device.engine.inventory().names == {FOREIGN: image_id(7)}


def test_an_unlock_after_the_former_images_were_removed_starts_from_what_is_there(tmp_path: Path) -> None:
    device = Device(engine_with([image_id(1), None, None], forgets=True), tmp_path)
    device.kill([(REFERENCES[0], image_id(8))], watch_seconds=60.0)
    for name in [name for name in device.engine.names if name != FOREIGN]:
        device.engine.remove_name(name)
    before = device.engine.inventory()
    with pytest.raises(EngineRejected):
        device.unlock([(REFERENCES[0], image_id(9))], EngineRejected("no"))
    device.unlock([(REFERENCES[0], image_id(9))])
    assert device.engine.inventory().names == {**before.names, REFERENCES[0]: image_id(9)}


def test_an_image_that_somebody_else_loads_after_a_kill_is_left_alone(tmp_path: Path) -> None:
    device = Device(engine_with([None, image_id(1), None]), tmp_path)
    device.kill([])
    for name in REFERENCES:
        device.engine.put(name, image_id(5))
    device.start()
    assert [device.engine.names[name] for name in REFERENCES] == [image_id(5)] * 3


@pytest.mark.parametrize("was_there", [False, True])
def test_an_image_that_a_killed_engine_has_loaded_without_its_name_goes_unless_it_was_there(
    tmp_path: Path, was_there: bool
) -> None:
    """podman 5.4 stores an image first, and gives it its name then."""
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    if was_there:
        device.engine.images.add(image_id(8))
    before = device.engine.inventory()
    with suppress(Killed), device.guarded():
        device.engine.images.add(image_id(8))
        device.engine.calls_left = 0
        raise Killed
    device.start()
    assert device.engine.inventory() == before


def test_a_nameless_image_of_an_earlier_unlock_goes_with_the_success_of_the_next(tmp_path: Path) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    with pytest.raises(EngineStalled):
        device.unlock([], EngineStalled("silent"), watch_seconds=600.0)
    device.engine.images.add(image_id(8))
    with device.rollback.guard({name: [image_id(6)] for name in REFERENCES}, 0.0):
        for name in REFERENCES:
            device.engine.put(name, image_id(6))
    assert device.engine.images == {image_id(6), image_id(7)}


def test_an_image_that_podman_has_half_written_hinders_no_unlock_and_no_rollback(tmp_path: Path) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    device.engine.half_written = NEW
    before = device.engine.inventory()
    with pytest.raises(EngineRejected, match="no"):
        device.unlock([(REFERENCES[0], image_id(8))], EngineRejected("no"))
    assert device.engine.inventory() == before
    device.unlock([(REFERENCES[0], image_id(8))])
    assert device.engine.names == {FOREIGN: image_id(7), REFERENCES[0]: image_id(8)}


def test_without_a_journal_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    device = Device(engine_with([image_id(1), None, None]), tmp_path / "file")
    before = device.engine.inventory()
    with pytest.raises(StorageError), device.guarded():
        raise AssertionError("the block must not run")
    assert device.engine.inventory() == before


def test_an_engine_that_lacks_the_pins_keeps_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DOCKER_HOST names another engine now, or somebody has replaced its store."""
    Device(engine_with([image_id(1), None, None]), tmp_path).kill([])
    other = Device(EngineOfNames({REFERENCES[0]: image_id(8), FOREIGN: image_id(7)}), tmp_path)
    before = other.engine.inventory()
    other.start()
    assert other.engine.inventory() == before
    assert any("that is gone" in message for message in caplog.messages)


def test_without_a_note_that_all_is_proven_the_journal_goes_before_the_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(engine_with([image_id(1), image_id(2), None], forgets=True), tmp_path)
    moved = {REFERENCES[0]: image_id(8), REFERENCES[1]: image_id(9)}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with device.guarded():
        for name, image in moved.items():
            device.engine.put(name, image)
        monkeypatch.setattr("loader.unlock.journal.write_durable", full)
        device.engine.calls_left, device.engine.ends_with = 2, gone()  # in the middle of the pins
    device.start()
    assert {name: device.engine.names.get(name) for name in moved} == moved


def test_a_disk_that_takes_no_note_of_the_end_makes_the_unlock_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was remounted read-only after the first load; else a later process would undo what was called ready."""
    device = Device(engine_with([image_id(1), None, None], forgets=True), tmp_path)
    before = device.engine.inventory()

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def unlock(patch: pytest.MonkeyPatch) -> None:
        with device.guarded():
            device.engine.put(REFERENCES[0], image_id(8))
            patch.setattr("loader.unlock.journal.write_durable", fail)
            patch.setattr("loader.unlock.journal.remove_if_there", fail)

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        unlock(patch)
    device.wait()
    assert device.engine.inventory() == before


def test_pins_that_cannot_be_dropped_end_no_later_unlock(tmp_path: Path) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    with device.guarded():
        device.engine.put(REFERENCES[0], image_id(8))
        device.engine.calls_left, device.engine.ends_with = 0, EngineRejected("a proxy forbids it")
    assert device.recover() == frozenset()
    device.engine.calls_left = ENDLESS
    device.wait()
    assert device.engine.inventory().names == {FOREIGN: image_id(7), REFERENCES[0]: image_id(8)}


@pytest.mark.parametrize("reference", REFERENCES, ids=["of the first", "of the second", "of neither"])
def test_the_next_unlock_drops_what_a_kill_between_two_pins_has_left(tmp_path: Path, reference: str) -> None:
    """The first unlock is still watched when the second one succeeds and is killed before its pin goes."""
    device = Device(engine_with([image_id(1), image_id(2), image_id(3)]), tmp_path)
    with pytest.raises(EngineStalled), device.guarded(REFERENCES[:1], watch_seconds=600.0):
        raise EngineStalled("silent")
    with suppress(Killed), device.guarded(REFERENCES[1:2]):
        device.engine.put(REFERENCES[1], image_id(8))
        device.engine.calls_left = 0
    device.engine.calls_left = ENDLESS
    device.recover()
    with device.guarded([reference]):
        device.engine.put(reference, image_id(9))
    assert image_id(2) not in device.engine.images


def test_a_pin_that_a_container_needs_stays_if_its_name_is_gone(tmp_path: Path) -> None:
    device = Device(engine_with([image_id(1), None, None], used=True), tmp_path)
    with device.guarded():
        del device.engine.names[REFERENCES[0]]
    device.wait()
    assert list(device.engine.names.values()) == [image_id(7), image_id(1)]
