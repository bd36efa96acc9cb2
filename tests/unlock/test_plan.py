"""The plan of an unlock, computed without an unlock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import DeviceFault, DiskSpace, EngineUnavailable, StorageError
from loader.settings import Settings
from loader.unlock.plan import ENGINE_COPIES, Place, PlannedImage, UnlockPlan, plan_unlock, require_room
from tests.support.archives import seal
from tests.support.small_disk import make_read_only, small_disk

MIB = 1 << 20
SIZE = 1000
DIGEST = "sha256:" + "1" * 64
IMAGE = ManifestImage("app:1.4", DIGEST, (DIGEST,), "2026-01-02T03:04:05Z")
FOUND = EngineImage(IMAGE.id, IMAGE.layers, IMAGE.created, 77, named=True)


class KnownEngine(DockerEngine):
    """Returns the given values without a connection."""

    def __init__(self, found: EngineImage | None, root: Path | None) -> None:
        super().__init__(1)
        self._found = found
        self._root = root

    def find(self, _: str) -> EngineImage | None:
        return self._found

    def root_directory(self) -> Path | None:
        return self._root


class AbsentEngine(DockerEngine):
    def find(self, _: str) -> EngineImage | None:
        raise EngineUnavailable("The Docker engine does not respond.")


class VanishingEngine(KnownEngine):
    """Goes down after it was asked for the images."""

    def root_directory(self) -> Path | None:
        raise EngineUnavailable("The Docker engine does not respond.")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(seal(tmp_path / "images.enc", [IMAGE], [bytes(SIZE)], SIZE)) as opened:
        yield opened


def settings(archive: Archive, mode: str = "tar") -> Settings:
    return dataclasses.replace(Settings.from_env({"UNLOCK_MODE": mode}), images_path=archive.path)


def plan(archive: Archive, engine: DockerEngine, mode: str = "tar") -> UnlockPlan:
    return plan_unlock(settings(archive, mode), engine)


def needs(found: UnlockPlan) -> dict[tuple[Path, ...], int]:
    return {place.paths: place.needed for place in found.places}


def test_images_are_present_only_if_they_are_those_of_the_manifest(archive: Archive) -> None:
    for found, present, size in (
        (FOUND, True, 77),
        (dataclasses.replace(FOUND, id="sha256:" + "2" * 64, created="2020-01-01T00:00:00Z"), False, None),
        (None, False, None),
    ):
        made = plan(archive, KnownEngine(found, None))
        assert made.images == (PlannedImage("app:1.4", DIGEST, IMAGE.created, present, size),)
        assert (made.done, made.engine_answers) == (present, True)


def test_without_an_engine_its_images_and_its_need_for_room_are_unknown(archive: Archive) -> None:
    made = plan(archive, AbsentEngine(1))
    assert made.images == (PlannedImage("app:1.4", DIGEST, IMAGE.created, None, None),)
    assert (made.done, made.engine_answers, made.fits) == (False, False, True)
    assert needs(made) == {(archive.path.parent,): SIZE}


def test_an_engine_that_goes_down_during_the_plan_counts_as_down(archive: Archive) -> None:
    made = plan(archive, VanishingEngine(FOUND, None))
    assert [image.present for image in made.images] == [None]
    assert (made.engine_answers, needs(made)) == (False, {(archive.path.parent,): SIZE})


def test_directories_on_one_disk_are_one_place(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "docker"
    root.mkdir()
    both = (archive.path.parent, root)
    assert needs(plan(archive, KnownEngine(None, root))) == {both: SIZE + ENGINE_COPIES * SIZE}
    assert needs(plan(archive, KnownEngine(None, root), "stream")) == {(root,): ENGINE_COPIES * SIZE}


def test_one_directory_for_both_needs_room_for_both(archive: Archive) -> None:
    directory = archive.path.parent
    assert needs(plan(archive, KnownEngine(None, directory))) == {(directory,): SIZE + ENGINE_COPIES * SIZE}


def test_directories_on_two_disks_are_two_places(archive: Archive, tmp_path: Path) -> None:
    with small_disk(tmp_path / "docker", MIB) as root:
        made = plan(archive, KnownEngine(None, root))
        assert needs(made) == {(archive.path.parent,): SIZE, (root,): ENGINE_COPIES * SIZE}
        assert made.places[1].free == MIB


@pytest.mark.parametrize("below", ["absent", "images.enc", "images.enc/docker", "x" * 300], ids=len)
def test_an_engine_root_that_is_not_a_directory_here_does_not_count(archive: Archive, below: str) -> None:
    made = plan(archive, KnownEngine(None, archive.path.parent / below))
    assert needs(made) == {(archive.path.parent,): SIZE}


def test_mode_stream_needs_no_room(archive: Archive) -> None:
    assert plan(archive, KnownEngine(None, None), "stream").places == ()


def test_a_read_only_disk_is_found(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        path = seal(disk / "images.enc", [IMAGE], [bytes(SIZE)], SIZE)
        with open_archive(path) as archive:
            assert plan(archive, KnownEngine(None, None)).fits
            make_read_only(disk)
            made = plan(archive, KnownEngine(None, None))
    assert [place.writable for place in made.places] == [False]
    assert not made.fits


def planned(mode: str, *places: Place) -> UnlockPlan:
    return UnlockPlan(Path("/a"), "2026-01-01T00:00:00Z", SIZE, mode, (), places, True)


GOOD = Place((Path("/a"),), 10, 10, writable=True)
SMALL = Place((Path("/b"), Path("/c")), 11, 10, writable=True)
READ_ONLY = Place((Path("/d"),), 1, 10, writable=False)


def test_exactly_enough_room_is_enough() -> None:
    require_room(planned("tar", GOOD, GOOD))
    require_room(planned("stream"))


@pytest.mark.parametrize("mode", ["tar", "stream"])
@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        (SMALL, DiskSpace, "There is too little room at /b and /c: 11 bytes are needed, 10 bytes are free."),
        (READ_ONLY, StorageError, "/d cannot be written to."),
    ],
)
def test_the_first_unusable_place_is_reported_with_advice_in_mode_tar(
    mode: str, place: Place, kind: type[DeviceFault], words: str
) -> None:
    with pytest.raises(kind) as raised:
        require_room(planned(mode, GOOD, place))
    assert str(raised.value) == words
    advice = " UNLOCK_MODE=stream would need less: it writes no tar."
    assert raised.value.hint == kind.hint + (advice if mode == "tar" else "")
    assert kind.hint.count("UNLOCK_MODE") == 0  # the hint of the class has not changed
