"""The failure of a plan: the first check that fails, of all that an unlock makes before its login."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.docker_engine import EngineImage
from loader.errors import ArchiveNotFound, EngineUnavailable
from loader.settings import Settings
from loader.unlock import preview
from loader.unlock.checks import PlannedFailure
from loader.unlock.journal import JOURNAL_NAME, Former, Journal, JournalFile
from loader.unlock.plan import UnlockPlan, make_plan
from loader.unlock.preview import plan_unlock
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark
from loader.unlock.remembered import remember
from tests.support.handmade_image import seal
from tests.support.thin_archives import index_of, thin_of
from tests.unlock.plan.planning import APP, DATABASE, EMPTY, KnownEngine, found, having


class GoneEngine(KnownEngine):
    """An engine that does not respond."""

    def find(self, _: str) -> EngineImage | None:
        raise EngineUnavailable("The Docker engine does not respond.")


GONE = GoneEngine({})


@pytest.fixture
def device(path: Path, tmp_path: Path) -> Settings:
    """A device with an archive of two images."""
    (tmp_path / "models").mkdir()
    return dataclasses.replace(Settings.from_env({}), images_path=path, model_cache_dir=tmp_path / "models")


def code_of(settings: Settings, engine: KnownEngine) -> str | None:
    failure = plan_unlock(settings, engine).failure
    return failure.code if failure is not None else None


def wrong_version(settings: Settings) -> Settings:
    return dataclasses.replace(settings, api_version="9.9")


def older(settings: Settings) -> Settings:
    release = KnownRelease.of(index_of(settings.images_path).stored)
    newest = dataclasses.replace(release, serial=release.serial + 1, head="0" * 64)
    (settings.model_cache_dir / MARK_NAME).write_bytes(ReleaseMark(newest).to_bytes())
    return settings


def incomplete(settings: Settings) -> Settings:
    other = seal(settings.images_path.with_name("other.enc"), [DATABASE], version="1.3")
    settings.images_path.write_bytes(thin_of(settings.images_path, other))
    return settings


def test_a_plan_that_can_be_carried_out_has_no_failure(device: Settings) -> None:
    assert code_of(device, EMPTY) is None
    assert code_of(device, having(found(APP), found(DATABASE))) is None


@pytest.mark.parametrize(
    ("changes", "engine", "code"),
    [
        ([wrong_version], EMPTY, "VERSION_MISMATCH"),
        ([older], EMPTY, "ROLLBACK"),
        ([], GONE, "ENGINE_UNAVAILABLE"),
        ([incomplete], EMPTY, "ARCHIVE_INCOMPLETE"),
        # The order is that of the unlock.
        ([older, wrong_version], GONE, "VERSION_MISMATCH"),
        ([older, incomplete], GONE, "ROLLBACK"),
        ([incomplete], GONE, "ENGINE_UNAVAILABLE"),
        # Images that are there need neither blobs nor room, but the right version and serial.
        ([incomplete], having(found(APP), found(DATABASE)), None),
        ([wrong_version], having(found(APP), found(DATABASE)), "VERSION_MISMATCH"),
        ([older], having(found(APP), found(DATABASE)), "ROLLBACK"),
    ],
)
def test_the_failure_is_the_first_check_that_fails(
    device: Settings, changes: list[Callable[[Settings], Settings]], engine: KnownEngine, code: str | None
) -> None:
    for change in changes:
        device = change(device)
    assert code_of(device, engine) == code


def test_room_is_the_last_check(device: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real disks of this check are those of tests/unlock/test_disk.py."""

    def full(*arguments: object) -> UnlockPlan:
        made = make_plan(*arguments)  # type: ignore[arg-type]  # handed on
        return dataclasses.replace(made, places=tuple(dataclasses.replace(each, free=0) for each in made.places))

    monkeypatch.setattr(preview, "make_plan", full)
    assert code_of(device, EMPTY) == "DISK_SPACE"
    assert code_of(device, having(found(APP), found(DATABASE))) is None
    assert code_of(incomplete(device), EMPTY) == "ARCHIVE_INCOMPLETE"


def test_the_failure_says_what_to_do() -> None:
    error = EngineUnavailable("It is down.", hint="Start it.")
    assert PlannedFailure.of(error) == PlannedFailure("ENGINE_UNAVAILABLE", "It is down.", "Start it.", True)


def test_images_that_are_there_need_no_archive(device: Settings) -> None:
    remember(device.model_cache_dir, index_of(device.images_path).stored)
    device.images_path.unlink()
    made = plan_unlock(device, having(found(APP), found(DATABASE)))
    assert (made.done, made.failure, made.release, made.places) == (True, None, None, ())
    assert [image.present for image in made.images] == [True, True]
    with pytest.raises(ArchiveNotFound):
        plan_unlock(device, having(found(APP)))
    with pytest.raises(EngineUnavailable):
        plan_unlock(device, GONE)


def test_expected_images_need_no_archive(device: Settings) -> None:
    device.images_path.unlink()
    with pytest.raises(ArchiveNotFound):
        plan_unlock(device, GONE)
    expecting = dataclasses.replace(device, expected_images=("app:1.4",))
    made = plan_unlock(expecting, KnownEngine({"app:1.4": found(APP)}))
    assert (made.done, made.failure, made.release, made.images) == (True, None, None, ())
    with pytest.raises(ArchiveNotFound):
        plan_unlock(expecting, EMPTY)


@pytest.mark.parametrize("proven", [False, True])
def test_images_of_an_unlock_that_ended_in_the_middle_are_not_there(device: Settings, proven: bool) -> None:
    """The loader was killed when all images were loaded and before they were proven: the next one takes them back."""
    new = frozenset({APP.image.config})
    former = Former(APP.image.reference, None, new, new)
    JournalFile(device.model_cache_dir).write(Journal((former.proven_as(new) if proven else former,), 1.0))
    made = plan_unlock(device, having(found(APP), found(DATABASE)))
    assert [image.present for image in made.images] == [proven, True]
    assert made.done is proven
    remember(device.model_cache_dir, index_of(device.images_path).stored)
    device.images_path.unlink()
    if proven:
        assert plan_unlock(device, having(found(APP), found(DATABASE))).done
    else:
        with pytest.raises(ArchiveNotFound):
            plan_unlock(device, having(found(APP), found(DATABASE)))


def test_a_damaged_journal_is_left_to_the_unlock(device: Settings) -> None:
    journal = device.model_cache_dir / JOURNAL_NAME
    journal.write_bytes(b"{")
    assert plan_unlock(device, having(found(APP), found(DATABASE))).done
    assert journal.read_bytes() == b"{"
