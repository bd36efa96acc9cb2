"""What an engine holds after an unlock that failed, that was killed at any step, or that ended well."""

from __future__ import annotations

import errno
import json
import logging
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.errors import EngineRejected, EngineStalled, EngineUnavailable, ImageMismatch, StorageError
from loader.unlock.rollback import JOURNAL_NAME, PINS, Rollback
from tests.support.processes import poll
from tests.unlock.rollback.engine_of_names import EngineOfNames, Inventory, Killed, gone, image_id

REFERENCES = [f"docker.io/azaion-test/app:{number}" for number in range(3)]
FOREIGN = "docker.io/library/foreign:1"
WAIT_SECONDS = 20.0

former = st.lists(st.sampled_from([None, image_id(1), image_id(2)]), min_size=3, max_size=3)
changes = st.lists(
    st.tuples(st.sampled_from(REFERENCES), st.sampled_from([image_id(8), image_id(9)])), unique_by=lambda move: move[0]
)


def engine_with(images: list[str | None], *, forgets: bool = False, used: bool = False) -> EngineOfNames:
    named = {name: image for name, image in zip(REFERENCES, images, strict=True) if image is not None}
    used_images = frozenset({image_id(1)} if used and image_id(1) in named.values() else ())
    return EngineOfNames({FOREIGN: image_id(7), **named}, forgets, used_images)


def rollback(engine: EngineOfNames, directory: Path, watch_seconds: float = 60.0) -> Rollback:
    return Rollback(engine, directory, watch_seconds)


def changed(made: Rollback, moved: list[tuple[str, str]], engine: EngineOfNames, end: BaseException) -> None:
    """Move names within the guard, which then ends with `end`. An engine that is gone or killed with it stays so."""
    with made.guard(REFERENCES):
        for name, image in moved:
            engine.put(name, image)
        if isinstance(end, Killed) or str(end) == str(gone()):
            engine.calls_left, engine.ends_with = 0, end
        raise end


def journal(directory: Path) -> Path:
    return directory / JOURNAL_NAME


def pins(inventory: Inventory) -> list[str]:
    return [name for name in inventory.names if name.startswith(PINS)]


@settings(max_examples=60)
@given(former, changes, st.booleans(), st.booleans(), st.integers(0, 25))
def test_a_kill_at_any_call_leaves_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[str | None],
    moved: list[tuple[str, str]],
    forgets: bool,
    used: bool,
    calls: int,
) -> None:
    directory = tmp_path_factory.mktemp("rollback")
    engine = engine_with(images, forgets=forgets, used=used)
    before = engine.inventory()
    engine.calls_left = calls
    ended = False
    with suppress(Killed):
        with rollback(engine, directory).guard(REFERENCES):
            for name, image in moved:
                engine.put(name, image)
        ended = True
    after = dict(before.names) | dict(moved)
    proven = ended or (journal(directory).exists() and json.loads(journal(directory).read_bytes())["proven"])
    engine.calls_left = 1 << 30
    rollback(engine, directory).recover()

    assert not journal(directory).exists()
    now = engine.inventory()
    if not proven:
        assert now == before
    else:
        assert now.names == after
        assert now.images == set(after.values()) | engine.used
    assert pins(now) == []


@settings(max_examples=60)
@given(former, changes, st.booleans(), st.booleans(), st.integers(0, 12))
def test_a_kill_while_an_earlier_unlock_is_undone_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[str | None],
    moved: list[tuple[str, str]],
    forgets: bool,
    used: bool,
    calls: int,
) -> None:
    directory = tmp_path_factory.mktemp("rollback")
    engine = engine_with(images, forgets=forgets, used=used)
    before = engine.inventory()
    with suppress(Killed):
        changed(rollback(engine, directory), moved, engine, Killed())
    engine.calls_left = calls
    with suppress(Killed):
        rollback(engine, directory).recover()
    engine.calls_left = 1 << 30
    rollback(engine, directory).recover()
    assert engine.inventory() == before
    assert not journal(directory).exists()


@pytest.mark.parametrize("fault", [EngineRejected("no"), ImageMismatch("other"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("forgets", [False, True])
def test_a_failure_restores_at_once(tmp_path: Path, fault: BaseException, forgets: bool) -> None:
    engine = engine_with([image_id(1), image_id(2), None], forgets=forgets)
    before = engine.inventory()
    moved = [(name, image_id(10 + number)) for number, name in enumerate(REFERENCES)]
    with pytest.raises(type(fault)):
        changed(rollback(engine, tmp_path), moved, engine, fault)
    assert engine.inventory() == before
    assert not journal(tmp_path).exists()


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("cut")], ids=repr)
def test_a_load_that_ends_after_its_connection_is_undone_too(
    tmp_path: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.02)
    engine = engine_with([image_id(1), None, None], forgets=True)
    before = engine.inventory()
    with pytest.raises(type(fault)):
        changed(rollback(engine, tmp_path, 1.0), [(REFERENCES[0], image_id(8))], engine, fault)
    assert engine.names[REFERENCES[0]] == image_id(1)
    engine.put(REFERENCES[0], image_id(8))
    poll(lambda: not journal(tmp_path).exists(), WAIT_SECONDS, "the engine is no longer watched")
    assert engine.inventory() == before


def test_an_engine_that_comes_back_is_restored_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.02)
    engine = engine_with([image_id(1), None, None], forgets=True)
    before = engine.inventory()
    with pytest.raises(EngineUnavailable):
        changed(rollback(engine, tmp_path), [(REFERENCES[0], image_id(8))], engine, gone())
    assert journal(tmp_path).exists()
    engine.calls_left = 1 << 30
    poll(lambda: not journal(tmp_path).exists(), WAIT_SECONDS, "the names are restored")
    assert engine.inventory() == before


def test_a_new_process_restores_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.02)
    engine = engine_with([image_id(1), image_id(2), None])
    before = engine.inventory()
    with pytest.raises(Killed):
        changed(rollback(engine, tmp_path), [(REFERENCES[2], image_id(8))], engine, Killed())
    engine.calls_left = 1 << 30
    rollback(engine, tmp_path, 0.0).recover_in_background()
    poll(lambda: not journal(tmp_path).exists(), WAIT_SECONDS, "the names are restored")
    assert engine.inventory() == before


def test_an_image_that_somebody_has_removed_meanwhile_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_with([image_id(1), None, None])
    with suppress(Killed):
        changed(rollback(engine, tmp_path), [], engine, Killed())
    engine.calls_left = 1 << 30
    for name in [name for name, image in engine.names.items() if image == image_id(1)]:
        engine.remove_name(name)
    rollback(engine, tmp_path).recover()
    assert any("that is gone" in message for message in caplog.messages)
    assert engine.inventory().names == {FOREIGN: image_id(7)}
    assert not journal(tmp_path).exists()


def test_a_directory_in_its_place_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.0)
    journal(tmp_path).mkdir()
    before = threading.active_count()
    rollback(engine_with([None, None, None]), tmp_path).recover_in_background()
    poll(lambda: threading.active_count() == before, WAIT_SECONDS, "the thread has ended")
    assert ["cannot be used" in message for message in caplog.messages] == [True]


def test_without_a_journal_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    engine = engine_with([image_id(1), None, None])
    before = engine.inventory()
    with pytest.raises(StorageError), rollback(engine, tmp_path / "file").guard(REFERENCES):
        raise AssertionError("the block must not run")
    assert engine.inventory() == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"references": []}',
        b'{"references": {"../containers": null}}',
        b'{"references": {"docker.io/a/b:1": "x"}}',
        b'{"references": {"docker.io/a/b:1": 5}}',
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
    ids=lambda data: data[:40],
)
def test_a_journal_that_cannot_be_used_is_told_and_removed(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal(tmp_path).write_bytes(data)
    engine = engine_with([image_id(1), None, None])
    before = engine.inventory()
    with caplog.at_level(logging.WARNING):
        rollback(engine, tmp_path).recover()
    assert any("cannot be used" in message for message in caplog.messages)
    assert engine.inventory() == before
    assert not journal(tmp_path).exists()


def test_an_engine_that_lacks_the_pins_keeps_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DOCKER_HOST names another engine now, or somebody has made its store anew."""
    first = engine_with([image_id(1), None, None])
    with suppress(Killed):
        changed(rollback(first, tmp_path), [], first, Killed())
    other = EngineOfNames({REFERENCES[0]: image_id(5), FOREIGN: image_id(7)})
    before = other.inventory()
    rollback(other, tmp_path).recover()
    assert other.inventory() == before
    assert any("that is gone" in message for message in caplog.messages)
    assert not journal(tmp_path).exists()


def test_without_a_note_that_all_is_proven_the_journal_goes_before_the_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with([image_id(1), image_id(2), None], forgets=True)
    made = rollback(engine, tmp_path)
    moved = {REFERENCES[0]: image_id(8), REFERENCES[1]: image_id(9)}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with made.guard(REFERENCES):
        for name, image in moved.items():
            engine.put(name, image)
        monkeypatch.setattr("loader.unlock.rollback.write_whole", full)
        engine.calls_left, engine.ends_with = 1, gone()  # in the middle of the pins
    engine.calls_left = 1 << 30
    rollback(engine, tmp_path).recover()
    assert {name: engine.names.get(name) for name in moved} == moved


def test_pins_that_cannot_be_dropped_end_no_later_unlock(tmp_path: Path) -> None:
    engine = engine_with([image_id(1), None, None])
    with rollback(engine, tmp_path).guard(REFERENCES):
        engine.put(REFERENCES[0], image_id(8))
        engine.calls_left, engine.ends_with = 0, EngineRejected("a proxy forbids it")
    rollback(engine, tmp_path).recover()
    with pytest.raises(EngineRejected):
        engine.find(FOREIGN)
    assert engine.names[REFERENCES[0]] == image_id(8)
