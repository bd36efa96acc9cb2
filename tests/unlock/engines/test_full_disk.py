"""The engine's disk fills up in the middle of an update: while the layers arrive, and while they are unpacked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.support.small_disk import fill, small_disk
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.conftest import MakeScene
from tests.unlock.engines.releases import IN_SECOND, LARGE, MIB
from tests.unlock.engines.scene import RESTORE_SECONDS, Scene
from tests.unlock.watched_device import MODES

pytest_plugins = ("tests.support.unlock_fixtures",)

DISK_SIZE = 120 * MIB
PODMANS = ("podman_engine", "podman_5")
# Which disk of which engine is small: that of its images, or that of its temporary files.
DISKS = [*((kind, "images") for kind in KINDS), *((kind, "spool") for kind in PODMANS)]
# What is free then beside the copies of the tar: less than the layer, so that one copy or the unpacked layer fails.
ROOMS = {"arriving": MIB, "unpacking": LARGE // 2}


@dataclass(frozen=True)
class FullDisk:
    """A scene on an engine whose small disk is `disk`."""

    scene: Scene
    disk: Path


@pytest.fixture(params=MODES)
def on_small_disk(request: pytest.FixtureRequest, kind: str, what: str, make_scene: MakeScene) -> Iterator[FullDisk]:
    """An engine of each kind whose images, or whose temporary files, are on a small disk."""
    with (
        tempfile.TemporaryDirectory(prefix="disk-") as short,  # engines take no long paths
        small_disk(Path(short, "disk"), DISK_SIZE) as disk,
        engine_of(kind, disk / "data" if what == "images" else None, disk if what == "spool" else None) as engine,
    ):
        scene = make_scene(engine, request.param)
        yield FullDisk(scene, disk)
        scene.operator.loader.stop()


def copies(kind: str, what: str) -> int:
    """Return how many copies of what arrives lie on the disk before the layers are unpacked there."""
    return 0 if kind in PODMANS and what == "images" else 1


@pytest.mark.parametrize(("kind", "what"), DISKS)
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS.keys())
def test_a_disk_that_fills_up_in_a_load_changes_nothing(
    on_small_disk: FullDisk, kind: str, what: str, room: int
) -> None:
    scene = on_small_disk.scene
    scene.operator.let_engine_change("podman cannot be asked while its disk is full")
    scene.hold(IN_SECOND)
    filler = fill(on_small_disk.disk, leave=room + copies(kind, what) * (room > MIB) * LARGE)
    scene.wire.release()
    status = scene.operator.rest()
    filler.unlink()
    assert_failed(status, "DISK_SPACE")
    scene.assert_as_before(within=RESTORE_SECONDS)
    scene.finish()
