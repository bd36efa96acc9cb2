"""What counts as old, and when nothing is removed: on a fake engine, whose images and faults a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loader.docker_engine import Absent, DockerEngine, EngineImage, StoredImage
from loader.errors import ArchiveCorrupt, Busy, DiskSpace, EngineRejected, EngineUnavailable, LoaderError, StorageError
from loader.oci import digest_of
from loader.references import full_reference
from loader.settings import Settings
from loader.unlock.journal import PINS
from loader.unlock.old_versions import find_old_versions, remove_old_versions
from tests.support.handmade_image import HandmadeImage, seal
from tests.unlock.old_versions.old_device import FOREIGN, NEXT, OLD, OLDER, PIN, UNLOCKED, DeviceFiles


class ListedEngine(DockerEngine):
    """A fake that has images under the given names. `before_removal` is called with each name that is to go."""

    def __init__(self, *names: str) -> None:
        super().__init__(1)
        self.names = list(names)
        self.before_removal: Callable[[str], None] = lambda _: None

    def list_images(self) -> tuple[StoredImage, ...]:
        return tuple(
            StoredImage(digest_of(name.encode()), (name,), 10, is_used=False, is_dangling=False) for name in self.names
        )

    def find(self, reference: str) -> EngineImage | None:
        found = (image.id for image in self.list_images() if reference in image.names)
        return next((EngineImage(image_id, (), 10) for image_id in found), None)

    def remove_name(self, reference: str) -> None:
        self.before_removal(reference)
        self.names.remove(reference)


@pytest.fixture
def files(tmp_path: Path) -> DeviceFiles:
    """The files of a device: UNLOCKED is remembered, and the archive has NEXT."""
    return DeviceFiles(tmp_path)


def engine_with_all() -> ListedEngine:
    return ListedEngine(*(image.reference for image in (UNLOCKED, NEXT, OLD, OLDER, *FOREIGN)), PIN)


def old_names(settings: Settings) -> list[str]:
    return [name.reference for name in find_old_versions(settings, engine_with_all()).names]


def test_the_archive_and_the_last_unlock_keep_their_names(files: DeviceFiles) -> None:
    assert old_names(files.settings()) == [PIN, OLDER.reference, OLD.reference]


def test_without_an_archive_the_last_unlock_decides(files: DeviceFiles) -> None:
    files.archive.unlink()
    assert old_names(files.settings()) == [PIN, OLDER.reference, OLD.reference, NEXT.reference]


def test_an_archive_that_was_never_unlocked_removes_nothing(files: DeviceFiles) -> None:
    """Nobody has authenticated it, so that it could name the repositories of others."""
    files.archive = seal(files.archive, [replace(image, reference=f"{image.reference}-9") for image in FOREIGN])
    assert old_names(files.settings()) == [PIN, OLDER.reference, OLD.reference, NEXT.reference]
    files.remembered.unlink()
    assert old_names(files.settings()) == [PIN]


def test_expected_images_stay(files: DeviceFiles) -> None:
    short = OLD.reference.removeprefix("docker.io/")
    by_digest = f"{short.partition(':')[0]}@sha256:{'a' * 64}"
    settings = files.settings(EXPECTED_IMAGES=f"{short},{by_digest}")
    assert old_names(settings) == [PIN, OLDER.reference]
    untagged = files.settings(EXPECTED_IMAGES=short.partition(":")[0], API_VERSION="1.2")
    assert old_names(untagged) == [PIN, OLD.reference]


@pytest.mark.parametrize("name", ["docker.io/library/app:1.3", f"{PINS}-other:1", f"localhost:5000/{OLD.reference}"])
def test_a_similar_repository_is_foreign(files: DeviceFiles, name: str) -> None:
    assert full_reference(name) == name
    assert find_old_versions(files.settings(), ListedEngine(name)).names == ()


def leave_journal(files: DeviceFiles) -> None:
    files.journal.write_text("{}")


def damage_archive(files: DeviceFiles) -> None:
    files.archive.write_bytes(files.archive.read_bytes()[:100])


def damage_remembered(files: DeviceFiles) -> None:
    files.remembered.write_bytes(b"{")


def hide_remembered(files: DeviceFiles) -> None:
    files.remembered.unlink()
    files.remembered.symlink_to(files.archive)


def move_models(files: DeviceFiles) -> None:
    files.models.rename(files.models.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (leave_journal, Busy),
        (damage_archive, ArchiveCorrupt),
        (damage_remembered, StorageError),
        (hide_remembered, StorageError),
        (move_models, StorageError),
    ],
)
def test_nothing_is_old_while_it_is_unknown_what_counts(
    files: DeviceFiles, spoil: Callable[[DeviceFiles], None], kind: type[LoaderError]
) -> None:
    spoil(files)
    with pytest.raises(kind):
        old_names(files.settings())


def test_the_removal_stops_when_an_unlock_starts(files: DeviceFiles) -> None:
    engine = engine_with_all()
    engine.before_removal = lambda name: leave_journal(files) if name == PIN else None
    old = find_old_versions(files.settings(), engine)
    with pytest.raises(Busy, match="unlock-journal"):
        remove_old_versions(files.settings(), engine, old)
    assert set(engine_with_all().names) - set(engine.names) == {PIN}


def put(files: DeviceFiles, image: HandmadeImage) -> None:
    seal(files.archive, [image])


def test_a_name_that_a_new_archive_names_during_the_removal_stays(files: DeviceFiles) -> None:
    """The device returns to a release whose images it still has, so that the unlock changes nothing in the engine."""
    engine = engine_with_all()
    engine.before_removal = lambda _: put(files, OLD)
    old = find_old_versions(files.settings(), engine)
    refused = remove_old_versions(files.settings(), engine, old)
    assert refused.keys() == {OLD.reference}
    assert OLD.reference in engine.names


def refusing(fault: Exception) -> Callable[[str], None]:
    def refuse(name: str) -> None:
        if name == OLDER.reference:
            raise fault

    return refuse


@pytest.mark.parametrize("fault", [EngineRejected("no right"), DiskSpace("full")], ids=repr)
def test_a_name_that_is_refused_does_not_stop_the_others(files: DeviceFiles, fault: Exception) -> None:
    engine = engine_with_all()
    engine.before_removal = refusing(fault)
    old = find_old_versions(files.settings(), engine)
    refused = remove_old_versions(files.settings(), engine, old)
    assert refused == {OLDER.reference: str(fault)}
    assert (old.freed({}), old.freed(refused)) == (30, 20)
    assert engine.names == [image.reference for image in (UNLOCKED, NEXT, OLDER, *FOREIGN)]


def test_a_name_that_is_gone_already_is_fine(files: DeviceFiles) -> None:
    engine = engine_with_all()
    engine.before_removal = refusing(Absent("gone"))
    assert remove_old_versions(files.settings(), engine, find_old_versions(files.settings(), engine)) == {}


def test_an_engine_that_goes_away_ends_the_removal(files: DeviceFiles) -> None:
    engine = engine_with_all()
    engine.before_removal = refusing(EngineUnavailable("away"))
    with pytest.raises(EngineUnavailable):
        remove_old_versions(files.settings(), engine, find_old_versions(files.settings(), engine))
