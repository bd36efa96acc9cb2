"""What a plan asks of an engine, and engines that are absent, refuse or hide something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.docker_engine import DockerEngine, EngineDescription, EngineImage
from loader.errors import EngineRejected, EngineUnavailable
from loader.unlock.room import JOURNAL_SIZE
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.unlock.plan.planning import APP, DATABASE, KnownEngine, found, needs, plan, sizes


class AbsentEngine(DockerEngine):
    def find(self, _: str) -> EngineImage | None:
        raise EngineUnavailable("The Docker engine does not respond.")


class VanishingEngine(KnownEngine):
    """Goes down after it was asked for the images."""

    def describe(self) -> EngineDescription:
        raise EngineUnavailable("The Docker engine does not respond.")


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
    assert needs(made) == {(path.parent,): made.work.to_send + JOURNAL_SIZE}
    assert made.work.to_send > 0


def test_an_engine_that_goes_down_during_the_plan_needs_unknown_room(path: Path) -> None:
    made = plan(path, VanishingEngine({APP.image.reference: found(APP)}))
    assert [image.present for image in made.images] == [True, False]
    assert needs(made) == {(path.parent,): made.work.to_send + JOURNAL_SIZE}
    assert made.warnings == ()


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
    with_root = {(root, path.parent): work.to_send + work.to_unpack + JOURNAL_SIZE}
    assert needs(made) == (with_root if root_counts else {(path.parent,): JOURNAL_SIZE})
    assert [image.present for image in made.images] == [False, False]
    assert (made.engine_answers, made.warnings) == (True, ())


def test_an_engine_with_the_containerd_store_keeps_the_blobs_too(path: Path, fake: FakeEngine, tmp_path: Path) -> None:
    root = tmp_path / "docker"
    root.mkdir()
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    fake.info = (200, {"DockerRootDir": str(root), "DriverStatus": status})
    made = plan(path, DockerEngine(1), "stream")
    assert needs(made) == {(root, path.parent): made.work.to_send + made.work.to_unpack + JOURNAL_SIZE}


def test_an_engine_that_forbids_to_look_at_images_ends_the_plan_for_it(path: Path, fake: FakeEngine) -> None:
    fake.image = (500, {"message": "broken"})
    with pytest.raises(EngineRejected, match="broken"):
        plan(path, DockerEngine(1))
