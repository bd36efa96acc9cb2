"""The room that an unlock needs on each disk, and what real engines write while they load an image."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.docker_engine import DockerEngine, EngineDescription, Store
from loader.errors import DeviceFault, DiskSpace, LoaderError, StorageError
from loader.files import INODES_HINT
from loader.settings import Settings
from loader.unlock.plan import UnlockPlan
from loader.unlock.preview import plan_unlock
from loader.unlock.room import JOURNAL_SIZE, STREAM_ADVICE, Place, Work, places, require_room
from tests.support.archives import APP
from tests.support.engines import Engine, engine_of
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image
from tests.support.small_disk import fill, make_read_only, small_disk, use_inodes

MIB = 1 << 20
# The tests of the journal are at the end.
WORK = Work(to_read=1, to_send=1000, largest=600, to_unpack=70, journal=0)
# What an engine writes besides content: its databases, directories, and blocks that are not full.
OVERHEAD = 3 * MIB
LAYER_MIB = 24


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """The directory of the archive."""
    directory = tmp_path / "device"
    directory.mkdir()
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of an engine, on the same disk."""
    directory = tmp_path / "docker"
    directory.mkdir()
    return directory


def settings(device: Path, mode: str = "tar") -> Settings:
    """Return the settings of a loader whose MODEL_CACHE_DIR is still to be made, in the directory of the archive."""
    made = Settings.from_env({"UNLOCK_MODE": mode})
    return dataclasses.replace(made, images_path=device / "images.enc", model_cache_dir=device / "cache" / "models")


def classic(root: Path | None) -> EngineDescription:
    return EngineDescription(root, Store.CLASSIC, "linux/amd64")


def needs(settings: Settings, engine: EngineDescription | None, work: Work = WORK) -> dict[tuple[Path, ...], int]:
    return {place.paths: place.needed for place in places(settings, work, engine)}


def test_the_classic_store_needs_a_copy_of_the_largest_tar_and_the_layers(device: Path, root: Path) -> None:
    assert needs(settings(device, "stream"), classic(root)) == {(root,): 600 + 70}


@pytest.mark.parametrize("store", [Store.CONTAINERD, Store.UNKNOWN])
def test_the_containerd_store_needs_all_blobs_and_the_layers(device: Path, root: Path, store: Store) -> None:
    containerd = EngineDescription(root, store, "linux/amd64")
    assert needs(settings(device, "stream"), containerd) == {(root,): 1000 + 70}


@pytest.mark.parametrize(("to_unpack", "copied"), [(0, 2 * 600), (70, 2 * 600 + 70), (900, 3 * 600)])
def test_podman_copies_the_largest_tar_and_its_new_layers_beside_the_layers(
    device: Path, root: Path, to_unpack: int, copied: int
) -> None:
    work = dataclasses.replace(WORK, to_unpack=to_unpack)
    with small_disk(root.with_name("copies"), MIB) as copies:
        podman = EngineDescription(root, Store.PODMAN, "linux/amd64", copies)
        assert needs(settings(device, "stream"), podman, work) == {(root,): to_unpack, (copies,): copied}


@pytest.mark.parametrize("copies", [None, Path("/nonexistent/tmp")], ids=str)
def test_copies_of_podman_at_an_unknown_place_do_not_count(device: Path, root: Path, copies: Path | None) -> None:
    podman = EngineDescription(root, Store.PODMAN, "linux/amd64", copies)
    assert needs(settings(device, "stream"), podman) == {(root,): 70}


def test_copies_of_a_podman_that_runs_elsewhere_do_not_count(device: Path, root: Path) -> None:
    """The directory of the copies has a usual name, which the loader's own machine has too."""
    podman = EngineDescription(root / "absent", Store.PODMAN, "linux/amd64", Path("/var/tmp"))
    assert needs(settings(device, "stream"), podman) == {}


def test_mode_tar_needs_room_for_all_tars_beside_the_archive(device: Path) -> None:
    assert needs(settings(device), None) == {(device,): 1000}
    assert needs(settings(device), classic(None)) == {(device,): 1000}


def test_mode_stream_needs_no_room_beside_the_archive(device: Path) -> None:
    assert needs(settings(device, "stream"), None) == {}


def test_directories_on_one_disk_are_one_place(device: Path, root: Path) -> None:
    assert needs(settings(device), classic(root)) == {(device, root): 1000 + 670}


def test_one_directory_for_both_needs_room_for_both(device: Path) -> None:
    assert needs(settings(device), classic(device)) == {(device,): 1000 + 670}
    podman = EngineDescription(device, Store.PODMAN, "linux/amd64", device)
    assert needs(settings(device), podman) == {(device,): 1000 + 70 + 1270}


def test_directories_on_two_disks_are_two_places(device: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        found = places(settings(device), WORK, classic(disk))
        assert [(place.paths, place.needed) for place in found] == [((device,), 1000), ((disk,), 670)]
        assert found[1].free == MIB


@pytest.mark.parametrize("below", ["absent", "file", "file/docker", "x" * 300], ids=len)
def test_an_engine_root_that_is_not_a_directory_here_does_not_count(device: Path, below: str) -> None:
    (device / "file").touch()
    assert needs(settings(device), classic(device / below)) == {(device,): 1000}


def test_a_directory_of_the_archive_that_is_absent_is_an_error(device: Path) -> None:
    with pytest.raises(StorageError, match=r"absent cannot be used"):
        places(settings(device / "absent"), WORK, None)


def test_a_read_only_disk_can_only_be_used_by_the_engine(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        assert [place.writable for place in places(settings(disk), WORK, None)] == [True]
        make_read_only(disk)
        assert [place.writable for place in places(settings(disk), WORK, None)] == [False]
        # Only the engine knows whether it can write to its own directory.
        assert [place.writable for place in places(settings(disk, "stream"), WORK, classic(disk))] == [True]


GOOD = Place((Path("/a"),), 10, 10, writable=True)
SMALL = Place((Path("/b"), Path("/c")), 11, 10, writable=True)
READ_ONLY = Place((Path("/d"),), 1, 10, writable=False)


def test_exactly_enough_room_is_enough() -> None:
    require_room((GOOD, GOOD))
    require_room(())


@pytest.mark.parametrize("tar", [0, 5])
@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        (SMALL, DiskSpace, "There is too little room at /b and /c: 11 bytes are needed, 10 bytes are free."),
        (READ_ONLY, StorageError, "/d cannot be written to."),
    ],
)
def test_the_first_unusable_place_is_reported_with_advice_where_the_tar_lies(
    place: Place, kind: type[DeviceFault], words: str, tar: int
) -> None:
    with pytest.raises(kind) as raised:
        require_room((dataclasses.replace(GOOD, tar=5), dataclasses.replace(place, tar=tar), SMALL))
    assert str(raised.value) == words
    assert raised.value.hint == kind.hint + (f" {STREAM_ADVICE}" if tar else "")
    assert kind.hint.count("UNLOCK_MODE") == 0  # the hint of the class has not changed


def test_only_the_disk_of_the_tar_needs_less_in_mode_stream(device: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        by_tar = places(settings(device), WORK, classic(disk))
        assert [(place.paths, place.tar) for place in by_tar] == [((device,), 1000), ((disk,), 0)]
        assert [place.tar for place in places(settings(device, "stream"), WORK, classic(disk))] == [0]
        # On one disk the advice is right, because the tar is a part of what is needed there.
        assert [place.tar for place in places(settings(disk), WORK, classic(disk))] == [1000]


def test_a_disk_without_inodes_takes_no_tar_and_no_image(device: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB, inodes=4) as disk:
        assert [place.fits for place in places(settings(disk), WORK, None)] == [True]
        made = use_inodes(disk)
        for found in (places(settings(disk), WORK, None), places(settings(device, "stream"), WORK, classic(disk))):
            assert [(place.fits, place.free) for place in found] == [(False, MIB)]
            with pytest.raises(
                DiskSpace, match=f"The disk of {disk} is out of inodes: .* {MIB} bytes are free"
            ) as raised:
                require_room(found)
            assert raised.value.hint == INODES_HINT
        nothing = Work(to_read=0, to_send=0, largest=0, to_unpack=0, journal=0)
        require_room(places(settings(disk), nothing, None))
        made[0].unlink()
        require_room(places(settings(disk), WORK, None))


JOURNALED = dataclasses.replace(WORK, journal=JOURNAL_SIZE)


def test_the_journal_needs_room_where_the_cache_is_or_will_be(device: Path, root: Path) -> None:
    both = 1000 + JOURNAL_SIZE
    assert needs(settings(device), None, JOURNALED) == {(device,): both}
    assert needs(settings(device, "stream"), None, JOURNALED) == {(device,): JOURNAL_SIZE}
    assert needs(settings(device), classic(root), JOURNALED) == {(device, root): both + 670}
    cache = settings(device).model_cache_dir
    cache.mkdir(parents=True)
    assert needs(settings(device), None, JOURNALED) == {(device, cache): both}
    assert needs(settings(device, "stream"), classic(root), JOURNALED) == {(root, cache): 670 + JOURNAL_SIZE}


def test_a_full_disk_of_the_cache_is_found(device: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        elsewhere = dataclasses.replace(settings(device), model_cache_dir=disk / "models")
        require_room(places(elsewhere, JOURNALED, None))
        fill(disk, leave=JOURNAL_SIZE - 4096)
        with pytest.raises(DiskSpace, match=f"at {disk}: {JOURNAL_SIZE} bytes are needed") as raised:
            require_room(places(elsewhere, JOURNALED, None))
        assert raised.value.hint == DiskSpace.hint
        # Nothing is written there if no name is left to move.
        require_room(places(elsewhere, WORK, None))


@pytest.mark.parametrize("mode", ["tar", "stream"])
def test_a_read_only_disk_of_the_cache_is_found_and_mode_stream_is_no_help(
    device: Path, tmp_path: Path, mode: str
) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        elsewhere = dataclasses.replace(settings(device, mode), model_cache_dir=disk / "models")
        on_one_disk = dataclasses.replace(settings(disk, mode), model_cache_dir=disk)
        make_read_only(disk)
        for each in (elsewhere, on_one_disk):
            with pytest.raises(StorageError, match=f"{disk} cannot be written to") as raised:
                require_room(places(each, JOURNALED, None))
            assert raised.value.hint == StorageError.hint


@pytest.fixture
def archive(device: Path) -> Iterator[Archive]:
    """An archive of an image with two large layers."""
    image = HandmadeImage(APP, tuple(HandmadeLayer(os.urandom(MIB), LAYER_MIB // 2) for _ in range(2)))
    with open_archive(seal(device / "images.enc", [image])) as opened:
        yield opened


@pytest.fixture(params=["docker", "podman"])
def engine_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, Path]]:
    """An engine, and the disk on which it has all of its files."""
    with (
        tempfile.TemporaryDirectory(prefix="room-") as short,  # podman takes no long paths
        small_disk(Path(short, "disk"), 10 * LAYER_MIB * MIB) as disk,
    ):
        # The directory of podman lies where Python has its temporary files.
        monkeypatch.setattr(tempfile, "tempdir", str(disk) if request.param == "podman" else None)
        made = engine_of("podman_engine") if request.param == "podman" else engine_of("docker_engine", disk / "data")
        with made as engine:
            monkeypatch.setenv("DOCKER_HOST", engine.host)
            yield engine, disk


def load_all(archive: Archive, plan: UnlockPlan) -> None:
    contents = archive.unseal(FRAGMENT, lambda: None)
    for layout in plan.layouts:
        for digest in layout.blobs:
            assert list(contents.authenticate(digest)) or digest in (layout.image.manifest, layout.image.config)
        DockerEngine(60).load(contents.layout(layout, contents.content))


def test_a_real_engine_needs_as_much_as_the_plan_says_and_not_much_less(
    archive: Archive, device: Path, engine_disk: tuple[Engine, Path]
) -> None:
    """podman's copies lie on the disk too: the tar, its files, and the layers once more.

    If the files of the tar find no room, podman reads the tar itself in its form for old engines. That would not do for
    a tar without lower layers.
    """
    engine, disk = engine_disk
    plan = plan_unlock(settings(device, "stream"), DockerEngine(60))
    place, _ = plan.places
    assert place.needed >= (4 if engine.name == "podman" else 2) * plan.work.to_unpack

    spared = plan.work.largest if engine.name == "podman" else 0
    filler = fill(disk, leave=place.needed - spared - 2 * OVERHEAD)
    with pytest.raises(LoaderError, match="no space left on device"):
        load_all(archive, plan)
    assert not has_image(engine, APP)
    filler.unlink()

    fill(disk, leave=place.needed + OVERHEAD)
    load_all(archive, plan)
    assert has_image(engine, APP)
