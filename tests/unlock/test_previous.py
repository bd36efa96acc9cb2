"""The exchange of two releases: which names move, what is refused, and what a kill at any step leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.archive_head import Head, StoredHead
from loader.errors import EngineRejected, NoWayBack, StorageError
from loader.files import write_durable
from loader.settings import Settings
from loader.unlock.previous import drop_previous, exchange, freed_without, keep_present, pin_of
from loader.unlock.remembered import NOTHING, REMEMBERED_NAME, ProvenRelease, Remembered
from loader.unlock.rollback import Rollback
from tests.support.handmade_image import HandmadeImage, HandmadeLayer
from tests.support.processes import poll
from tests.unlock.images.controlled_engine import head_with
from tests.unlock.rollback.engine_of_names import FOREIGN, EngineOfNames, Killed, image_id

NAMES = [f"docker.io/azaion-test/app{number}:1" for number in range(4)]
WAIT_SECONDS = 20.0
ENDLESS = 1 << 30


def image(name: str, note: int) -> HandmadeImage:
    return HandmadeImage(name, (HandmadeLayer(b"base"), HandmadeLayer(b"%d" % note)))


def release(serial: int, notes: Mapping[str, int]) -> Head:
    """Return the release of images that differ by their notes."""
    head = head_with(*(image(name, note) for name, note in notes.items()))
    return replace(head, release=replace(head.release, serial=serial))


# One image has changed, one has not, one has gone, and one is new.
FORMER = release(1, {NAMES[0]: 10, NAMES[1]: 11, NAMES[2]: 12})
LATTER = release(2, {NAMES[0]: 20, NAMES[1]: 11, NAMES[3]: 23})


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Look again at once. Of the module, because a thread of one test may still look in the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.02)
        patch.setattr("loader.unlock.previous.WATCH_SECONDS", 0.0)
        yield


def stored(head: Head) -> StoredHead:
    return StoredHead.of(head)


def names_of(present: Head, previous: Head) -> dict[str, str]:
    """Return the names in an engine with these two releases."""
    named = {each.reference: each.config for each in present.images}
    pinned = {pin_of(each.reference): each.config for each in previous.images}
    return {FOREIGN: image_id(7), **named, **pinned}


class Device:
    """An engine, and the directory of the loader, with LATTER as present release. Each rollback is a new process."""

    def __init__(self, directory: Path, *, forgets: bool = False) -> None:
        self.engine = EngineOfNames(names_of(LATTER, FORMER), forgets)
        self.directory = directory
        self.settings = Settings.from_env({"MODEL_CACHE_DIR": str(directory), "IMAGES_PATH": str(directory / "i.enc")})
        Remembered(ProvenRelease.of(stored(LATTER)), None, ProvenRelease.of(stored(FORMER))).write(directory)

    @property
    def rollback(self) -> Rollback:
        return Rollback(self.engine, self.directory)

    def go_back(self) -> None:
        exchange(self.settings, self.engine, self.rollback)

    def start(self) -> None:
        """Do what a new process does at its start, until it has nothing left to do."""
        self.engine.calls_left = ENDLESS
        self.rollback.recover_in_background()
        poll(lambda: not self.rollback.is_due, WAIT_SECONDS, "the journal is gone")

    def releases(self) -> tuple[int, int]:
        """Return the serials of the present and of the previous release, which names and files must agree about."""
        remembered = Remembered.read(self.directory)
        assert remembered.present is not None
        assert remembered.previous is not None
        assert self.engine.names == names_of(remembered.present.head, remembered.previous.head)
        assert self.engine.images == set(self.engine.names.values())
        return remembered.present.head.release.serial, remembered.previous.head.release.serial


def test_two_releases_change_places_and_back(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert device.releases() == (2, 1)
    device.go_back()
    assert device.releases() == (1, 2)
    device.go_back()
    assert device.releases() == (2, 1)


@settings(max_examples=80, deadline=None)
@given(st.booleans(), st.integers(0, 60))
def test_a_kill_at_any_call_leaves_one_release(
    tmp_path_factory: pytest.TempPathFactory, forgets: bool, calls: int
) -> None:
    device = Device(tmp_path_factory.mktemp("device"), forgets=forgets)
    device.engine.calls_left = calls
    with suppress(Killed):
        device.go_back()
    device.start()
    assert device.releases() in {(1, 2), (2, 1)}


@pytest.mark.parametrize("file", ["loader.unlock.remembered", "loader.unlock.journal"])
@pytest.mark.parametrize("after", range(4))
def test_a_kill_at_any_write_leaves_one_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, after: int
) -> None:
    device = Device(tmp_path)
    left = [after]

    def kill_if_due() -> None:
        left[0] -= 1
        if left[0] < 0:
            device.engine.calls_left = 0
            raise Killed

    def write(path: Path, data: bytes) -> None:
        kill_if_due()
        write_durable(path, data)
        kill_if_due()

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(f"{file}.write_durable", write)
        device.go_back()
    device.start()
    assert device.releases() in {(1, 2), (2, 1)}


def test_a_disk_that_takes_the_note_later_gets_it_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("loader.unlock.remembered.write_durable", full)
        device.go_back()
        assert device.rollback.is_due
    poll(lambda: not device.rollback.is_due, WAIT_SECONDS, "the journal is gone")
    assert device.releases() == (1, 2)


def test_an_engine_that_refuses_a_name_keeps_all(tmp_path: Path) -> None:
    for name in (NAMES[0], NAMES[2], pin_of(NAMES[0]), pin_of(NAMES[2])):
        device = Device(tmp_path)
        device.engine.names.pop(NAMES[2], None)
        before = device.engine.inventory()
        device.engine.refused = {name: EngineRejected("a proxy forbids it")}
        with pytest.raises(EngineRejected):
            device.go_back()
        device.engine.refused = {}
        device.start()
        assert device.engine.inventory() == before
        assert Remembered.read(tmp_path).is_head(stored(LATTER))


def test_an_image_that_cannot_be_run_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path)
    before = device.engine.inventory()

    def refuse(*_: object) -> None:
        raise EngineRejected("it cannot be run")

    monkeypatch.setattr(device.engine, "prove", refuse)
    with pytest.raises(EngineRejected):
        device.go_back()
    assert device.engine.inventory() == before
    assert device.releases() == (2, 1)


@pytest.mark.parametrize("name", [NAMES[0], NAMES[2], NAMES[3]])
def test_a_name_that_somebody_else_has_moved_is_left_alone(tmp_path: Path, name: str) -> None:
    """Of an image that both releases have, that only the former one has, and that only the latter one has."""
    device = Device(tmp_path)
    device.engine.put(name, image_id(5))
    before = device.engine.inventory()
    with pytest.raises(NoWayBack, match=r"is neither the image of release 1\.4 \(serial 2\) nor that of") as raised:
        device.go_back()
    assert name in str(raised.value)
    assert "another name" in raised.value.hint
    assert device.engine.inventory() == before
    assert not device.rollback.is_due


def test_names_that_are_absent_or_stand_for_the_other_release_already_do_no_harm(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.engine.remove_name(NAMES[3])
    device.engine.put(NAMES[0], FORMER.images[0].config)
    device.go_back()
    expected = {each.reference: each.config for each in FORMER.images}
    assert {name: device.engine.names.get(name) for name in NAMES[:3]} == expected
    # What the engine has lost of the other release cannot come back.
    with pytest.raises(NoWayBack, match="The engine no longer has"):
        device.go_back()


def test_a_previous_release_that_has_gone_is_told(tmp_path: Path) -> None:
    device = Device(tmp_path)
    previous = Remembered.read(tmp_path).previous
    assert previous is not None
    drop_previous(device.engine, previous)
    before = device.engine.inventory()
    assert before.names == {name: id_ for name, id_ in names_of(LATTER, LATTER).items() if "previous" not in name}
    with pytest.raises(NoWayBack, match=rf"no longer has {NAMES[0]} of release 1\.4 \(serial 1\), the previous one"):
        device.go_back()
    assert device.engine.inventory() == before


def test_another_image_under_the_name_of_a_kept_one_is_refused(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.engine.put(pin_of(NAMES[0]), image_id(5))
    with pytest.raises(NoWayBack, match="no longer has"):
        device.go_back()


def test_without_two_releases_there_is_no_way_back(tmp_path: Path) -> None:
    device = Device(tmp_path)
    Remembered(ProvenRelease.of(stored(LATTER))).write(tmp_path)
    with pytest.raises(NoWayBack, match="No other release"):
        device.go_back()
    (tmp_path / REMEMBERED_NAME).unlink()
    with pytest.raises(NoWayBack, match="No other release"):
        device.go_back()
    (tmp_path / REMEMBERED_NAME).write_text("{")
    with pytest.raises(StorageError):
        device.go_back()


def test_the_release_before_is_kept_and_the_one_before_that_is_not() -> None:
    third = release(3, {NAMES[0]: 30})
    engine = EngineOfNames(names_of(LATTER, FORMER))
    remembered = Remembered(ProvenRelease.of(stored(LATTER)), None, ProvenRelease.of(stored(FORMER)))
    keep_present(engine, remembered, stored(third)).apply(engine)
    assert engine.names == names_of(LATTER, LATTER)
    after = remembered.followed_by(stored(third), None)
    assert after.previous == remembered.present
    assert after.followed_by(stored(third), None) == after


def test_the_same_release_again_keeps_what_is_kept() -> None:
    engine = EngineOfNames(names_of(LATTER, FORMER))
    remembered = Remembered(ProvenRelease.of(stored(LATTER)), None, ProvenRelease.of(stored(FORMER)))
    assert keep_present(engine, remembered, stored(LATTER)).images == {}
    assert keep_present(engine, NOTHING, stored(LATTER)).images == {}


def test_an_image_that_somebody_else_has_put_there_is_not_kept() -> None:
    engine = EngineOfNames({**names_of(LATTER, FORMER), NAMES[0]: image_id(5)})
    remembered = Remembered(ProvenRelease.of(stored(LATTER)), None, ProvenRelease.of(stored(FORMER)))
    keep_present(engine, remembered, stored(release(3, {NAMES[0]: 30}))).apply(engine)
    kept = [pin_of(name) in engine.names for name in NAMES]
    assert kept == [False, True, False, True]


def test_what_goes_free_is_what_no_other_image_has() -> None:
    engine = EngineOfNames(names_of(LATTER, FORMER))
    previous = ProvenRelease.of(stored(FORMER))
    there = [each.layers for each in LATTER.images]
    changed, same, gone = (each.layers for each in FORMER.images)
    sizes = {layer: FORMER.blob[layer].size for layer in (*changed, *same, *gone)}
    assert freed_without(engine, previous, there) == sizes[changed[-1]] + sizes[gone[-1]]
    assert freed_without(engine, previous, []) == sum(sizes.values())
    engine.names = {FOREIGN: image_id(7)}
    assert freed_without(engine, previous, []) == 0
