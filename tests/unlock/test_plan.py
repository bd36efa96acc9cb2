"""The plan of an unlock, computed without an unlock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.archive_head import GZIP, MAX_REFERENCES
from loader.docker_engine import DockerEngine, EngineDescription, EngineImage, Store
from loader.errors import ArchiveCorrupt, ArchiveNotFound, EngineRejected, EngineUnavailable
from loader.settings import Settings
from loader.unlock.plan import UnlockPlan, plan_unlock
from tests.support.archives import head_of
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.small_disk import make_read_only, small_disk

MIB = 1 << 20
BASE = HandmadeLayer(b"b" * 1000, 50, "base.bin")
MIDDLE = HandmadeLayer(b"m" * 1000, 30, "middle.bin")
TOP = HandmadeLayer(b"t" * 1000, 70, "top.bin")
APP = HandmadeImage("app:1.4", (BASE, MIDDLE, TOP))
DATABASE = HandmadeImage("database:9", (BASE,))
OTHER_ID = "sha256:" + "2" * 64
AMD64 = EngineDescription(None, Store.CLASSIC, "linux/amd64")


class KnownEngine(DockerEngine):
    """Has the given images by their names, without a connection."""

    def __init__(self, images: dict[str, EngineImage], description: EngineDescription = AMD64) -> None:
        super().__init__(1)
        self._images = images
        self._description = description

    def find(self, reference: str) -> EngineImage | None:
        return self._images.get(reference)

    def describe(self) -> EngineDescription:
        return self._description


class AbsentEngine(DockerEngine):
    def find(self, _: str) -> EngineImage | None:
        raise EngineUnavailable("The Docker engine does not respond.")


class VanishingEngine(KnownEngine):
    """Goes down after it was asked for the images."""

    def describe(self) -> EngineDescription:
        raise EngineUnavailable("The Docker engine does not respond.")


EMPTY = KnownEngine({})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive of `APP` and `DATABASE`."""
    return seal(tmp_path / "images.enc", [APP, DATABASE])


def plan(path: Path, engine: DockerEngine, mode: str = "tar") -> UnlockPlan:
    settings = dataclasses.replace(Settings.from_env({"UNLOCK_MODE": mode}), images_path=path)
    return plan_unlock(settings, engine)


def found(image: HandmadeImage, image_id: str | None = None) -> EngineImage:
    """Return `image` as an engine describes it, by default as one that has exactly this image."""
    return EngineImage(image_id or image.image.config, image.image.layers, 77, named=True)


def having(*images: EngineImage) -> KnownEngine:
    """Return an engine that has these images under the names of `APP` and `DATABASE`."""
    return KnownEngine(dict(zip((APP.image.reference, DATABASE.image.reference), images, strict=False)))


def sizes(*layers: HandmadeLayer) -> int:
    return sum(layer.described[1] for layer in layers)


def needs(made: UnlockPlan) -> dict[tuple[Path, ...], int]:
    return {place.paths: place.needed for place in made.places}


def sent(made: UnlockPlan) -> list[tuple[str, tuple[str, ...]]]:
    return [(layout.image.reference, layout.layers) for layout in made.layouts]


def digests(*layers: HandmadeLayer) -> tuple[str, ...]:
    return tuple(layer.described[0] for layer in layers)


def test_the_plan_describes_each_image_of_the_archive(path: Path) -> None:
    made = plan(path, EMPTY)
    assert (made.archive, made.mode, made.release) == (path, "tar", head_of(path).release)
    for image, expected in zip(made.images, (APP, DATABASE), strict=True):
        assert image.reference == expected.image.reference
        assert (image.config, image.platform, image.created) == (
            expected.image.config,
            "linux/amd64",
            expected.image.created,
        )
        assert image.size == sizes(*expected.layers)


@pytest.mark.parametrize(
    ("image_id", "present"),
    [(APP.image.config, True), (APP.image.manifest, True), (OTHER_ID, False), ("", False)],
    ids=["config", "manifest", "another", "none"],
)
def test_an_image_is_present_by_its_exact_id_and_not_by_its_layers(path: Path, image_id: str, present: bool) -> None:
    engine = having(found(APP, image_id or OTHER_ID), found(DATABASE))
    made = plan(path, engine)
    assert [image.present for image in made.images] == [present, True]
    assert (made.done, made.engine_answers) == (present, True)
    assert len(made.layouts) == (0 if present else 1)


def test_an_image_that_differs_only_in_its_settings_is_missing(path: Path) -> None:
    """Reproducible builds give both the same layers and the same time."""
    other = dataclasses.replace(APP, settings={"Env": ["MODE=old"]})
    assert other.image.layers == APP.image.layers
    made = plan(path, having(found(other), found(DATABASE)))
    assert [image.present for image in made.images] == [False, True]
    assert made.work.to_unpack == 0


def test_a_plan_that_is_done_has_no_work(path: Path) -> None:
    made = plan(path, having(found(APP), found(DATABASE)))
    assert made.done
    assert made.layouts == ()
    assert dataclasses.astuple(made.work) == (0, 0, 0, 0)
    assert needs(made) == {(path.parent,): 0}


@pytest.mark.parametrize("codec", ["none", GZIP])
def test_work_counts_what_is_read_sent_and_unpacked(tmp_path: Path, codec: str) -> None:
    path = seal(tmp_path / "images.enc", [APP, DATABASE], codec=codec)
    made = plan(path, EMPTY)
    stored = sum(blob.stored_size for blob in head_of(path).blobs)
    assert made.work.to_read == stored
    layouts = [layout.size for layout in made.layouts]
    assert (made.work.to_send, made.work.largest) == (sum(layouts), max(layouts))
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)
    assert made.work.largest > sizes(BASE, MIDDLE, TOP)


def test_layers_that_an_earlier_layout_brings_are_not_sent_again(path: Path) -> None:
    assert sent(plan(path, EMPTY)) == [
        (APP.image.reference, digests(BASE, MIDDLE, TOP)),
        (DATABASE.image.reference, ()),
    ]


def test_the_order_of_the_archive_decides_which_layout_brings_a_layer(tmp_path: Path) -> None:
    made = plan(seal(tmp_path / "images.enc", [DATABASE, APP]), EMPTY)
    assert sent(made) == [(DATABASE.image.reference, digests(BASE)), (APP.image.reference, digests(MIDDLE, TOP))]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)


def test_only_layers_at_the_bottom_of_the_chain_are_left_out(tmp_path: Path) -> None:
    """Above another layer the same layer is another one for an engine, which then needs its bytes."""
    turned = HandmadeImage("turned:1", (MIDDLE, BASE, TOP))
    forked = HandmadeImage("forked:1", (BASE, TOP))
    made = plan(seal(tmp_path / "images.enc", [APP, turned, forked]), EMPTY)
    assert [layers for _, layers in sent(made)] == [
        digests(BASE, MIDDLE, TOP),
        digests(MIDDLE, BASE, TOP),
        digests(TOP),
    ]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP) + sizes(MIDDLE, BASE, TOP) + sizes(TOP)


def test_an_image_that_is_there_brings_no_layer(path: Path) -> None:
    """Only layers of this run are left out, because another client may remove an image at any time."""
    made = plan(path, having(found(APP)))
    assert sent(made) == [(DATABASE.image.reference, digests(BASE))]


def test_a_layer_that_an_image_has_twice_is_sent_once(tmp_path: Path) -> None:
    twice = HandmadeImage("twice:1", (BASE, TOP, BASE))
    made = plan(seal(tmp_path / "images.enc", [twice]), EMPTY)
    assert made.work.to_unpack == sizes(BASE, TOP, BASE)
    assert made.images[0].size == sizes(BASE, TOP, BASE)
    assert sizes(BASE, TOP) < made.work.to_send < sizes(BASE, TOP, BASE)


@pytest.mark.parametrize(
    ("old", "unpacked"),
    [
        ((BASE,), (MIDDLE, TOP)),
        ((BASE, MIDDLE), (TOP,)),
        ((BASE, TOP, MIDDLE), (MIDDLE, TOP)),
        ((MIDDLE, TOP), (BASE, MIDDLE, TOP)),
        ((), (BASE, MIDDLE, TOP)),
    ],
)
def test_layers_at_the_bottom_of_an_image_under_the_name_now_are_not_unpacked(
    path: Path, old: tuple[HandmadeLayer, ...], unpacked: tuple[HandmadeLayer, ...]
) -> None:
    old_app = dataclasses.replace(found(APP, OTHER_ID), layers=digests(*old))
    made = plan(path, having(old_app))
    assert made.work.to_unpack == sizes(*unpacked)
    # They are sent nevertheless.
    assert sent(made)[0] == (APP.image.reference, digests(BASE, MIDDLE, TOP))


def test_further_names_of_an_image_cost_nothing(tmp_path: Path) -> None:
    names = [dataclasses.replace(APP, reference=f"app:{number}") for number in range(MAX_REFERENCES)]
    path = seal(tmp_path / "images.enc", names)
    made = plan(path, EMPTY)
    assert len(made.images) == MAX_REFERENCES
    assert sent(made) == [(names[0].image.reference, digests(BASE, MIDDLE, TOP))]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)

    # The engine has the image under its last name: the others are given without sending anything.
    made = plan(path, KnownEngine({names[-1].image.reference: found(APP)}))
    assert [image.present for image in made.images] == [False] * (MAX_REFERENCES - 1) + [True]
    assert (made.layouts, made.done, made.work.to_send) == ((), False, 0)


def test_hundreds_of_images_are_planned(tmp_path: Path) -> None:
    images = [HandmadeImage(f"app:{number}", (BASE,), {"Env": [f"N={number}"]}) for number in range(MAX_REFERENCES)]
    made = plan(seal(tmp_path / "images.enc", images), EMPTY)
    assert len(made.layouts) == MAX_REFERENCES
    assert made.work.to_unpack == sizes(BASE)
    assert [layout.layers for layout in made.layouts] == [digests(BASE)] + [()] * (MAX_REFERENCES - 1)


def test_each_name_is_looked_up_once(path: Path) -> None:
    asked: list[str] = []

    class Counting(KnownEngine):
        def find(self, reference: str) -> EngineImage | None:
            asked.append(reference)
            return super().find(reference)

    plan(path, Counting({}))
    assert asked == [image.image.reference for image in (APP, DATABASE)]


def test_without_an_engine_its_images_and_its_need_for_room_are_unknown(path: Path) -> None:
    made = plan(path, AbsentEngine(1))
    assert [(image.present, image.size) for image in made.images] == [
        (None, sizes(*APP.layers)),
        (None, sizes(*DATABASE.layers)),
    ]
    assert (made.done, made.engine_answers, made.fits, made.warnings) == (False, False, True, ())
    assert needs(made) == {(path.parent,): made.work.to_send}
    assert made.work.to_send > 0


def test_an_engine_that_goes_down_during_the_plan_needs_unknown_room(path: Path) -> None:
    made = plan(path, VanishingEngine({APP.image.reference: found(APP)}))
    assert [image.present for image in made.images] == [True, False]
    assert needs(made) == {(path.parent,): made.work.to_send}
    assert made.warnings == ()


def test_the_engine_and_the_tars_need_room(path: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "docker", MIB) as root:
        made = plan(path, KnownEngine({}, EngineDescription(root, Store.CLASSIC, "")))
        engine = made.work.largest + made.work.to_unpack
        assert needs(made) == {(path.parent,): made.work.to_send, (root,): engine}
        assert needs(plan(path, KnownEngine({}, EngineDescription(root, Store.CLASSIC, "")), "stream")) == {
            (root,): engine
        }
        assert made.fits


def test_a_read_only_disk_is_found(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 * MIB) as disk:
        path = seal(disk / "images.enc", [APP])
        assert plan(path, EMPTY).fits
        make_read_only(disk)
        made = plan(path, EMPTY)
    assert [place.writable for place in made.places] == [False]
    assert not made.fits


@pytest.mark.parametrize(
    ("architecture", "engine", "warned"),
    [
        ("arm64", "linux/amd64", True),
        ("amd64", "linux/arm64", True),
        ("amd64", "windows/amd64", True),
        ("arm64", "linux/arm64", False),
        ("arm64", "", False),
    ],
)
def test_images_for_another_platform_than_the_engine_s_are_warned_of(
    tmp_path: Path, architecture: str, engine: str, warned: bool
) -> None:
    images = [dataclasses.replace(APP, architecture=architecture, reference=f"app:{number}") for number in range(2)]
    path = seal(tmp_path / "images.enc", [*images, HandmadeImage("other:1", (BASE,), architecture=architecture)])
    made = plan(path, KnownEngine({}, EngineDescription(None, Store.CLASSIC, engine)))
    expected = [
        f"docker.io/library/{name} is made for linux/{architecture}, but the engine runs {engine}."
        for name in ("app:0", "other:1")
    ]
    assert list(made.warnings) == (expected if warned else [])
    # A warning stops nothing, because the engine may have an emulator.
    assert len(made.layouts) == 2


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8", "linux/arm/v7"])
def test_the_variant_of_an_architecture_is_ignored(platform: str) -> None:
    assert EngineDescription(None, Store.CLASSIC, "linux/arm64").runs(platform) is ("arm64" in platform)
    assert not AMD64.runs(platform)


def test_an_archive_that_is_absent_or_damaged_has_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "images.enc"
    with pytest.raises(ArchiveNotFound):
        plan(path, EMPTY)
    path.write_bytes(b"AZIMAGE2")
    with pytest.raises(ArchiveCorrupt):
        plan(path, EMPTY)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine without images, which forbids to ask for its description."""

    def no_load(call: FakeCall) -> None:
        call.respond(500, {"message": "a plan loads nothing"})

    with FakeEngine(tmp_path / "fake.sock", no_load) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


@pytest.mark.parametrize(
    ("info", "root_counts"),
    [
        ((403, {"message": "forbidden"}), False),
        ((200, {}), False),
        ((200, {"DockerRootDir": "/nonexistent/docker"}), False),
        ((200, {"DockerRootDir": "ROOT"}), True),
    ],
    ids=["forbidden", "not told", "not visible", "told"],
)
def test_an_engine_may_hide_where_it_keeps_its_images(
    path: Path, fake: FakeEngine, tmp_path: Path, info: tuple[int, dict[str, Any]], root_counts: bool
) -> None:
    root = tmp_path / "docker"
    root.mkdir()
    fake.info = (info[0], {key: value.replace("ROOT", str(root)) for key, value in info[1].items()})
    made = plan(path, DockerEngine(1), "stream")
    work = made.work
    assert needs(made) == ({(root,): work.largest + work.to_unpack} if root_counts else {})
    assert [image.present for image in made.images] == [False, False]
    assert (made.engine_answers, made.warnings) == (True, ())


def test_an_engine_with_the_containerd_store_keeps_the_blobs_too(path: Path, fake: FakeEngine, tmp_path: Path) -> None:
    root = tmp_path / "docker"
    root.mkdir()
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    fake.info = (200, {"DockerRootDir": str(root), "DriverStatus": status})
    made = plan(path, DockerEngine(1), "stream")
    assert needs(made) == {(root,): made.work.to_send + made.work.to_unpack}


def test_an_engine_that_forbids_to_look_at_images_ends_the_plan_for_it(path: Path, fake: FakeEngine) -> None:
    fake.image = (500, {"message": "broken"})
    with pytest.raises(EngineRejected, match="broken"):
        plan(path, DockerEngine(1))
