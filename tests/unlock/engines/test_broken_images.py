"""Images that Docker 26.1 has in its containerd store and cannot run: a device is not ready over them.

`docker_containerd_26` tells nothing about it (API 1.45), so that only a container shows it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.engines import Engine, engine_of
from tests.support.inventory import Inventory
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.conftest import MakeScene
from tests.unlock.engines.releases import NAMES
from tests.unlock.engines.scene import Scene, clean

pytest_plugins = ("tests.support.unlock_fixtures",)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with engine_of("docker_containerd_26") as engine:
        yield engine


@pytest.fixture
def unlocked(engine: Engine, make_scene: MakeScene) -> Iterator[Scene]:
    """A device that has unlocked the new release, and whose loader was started once more."""
    clean(engine)
    scene = make_scene(engine, "stream")
    scene.finish()
    scene.operator.loader.stop()
    scene.operator = scene.start_loader()
    yield scene
    scene.operator.loader.stop()
    clean(engine)


def break_snapshots(engine: Engine) -> None:
    """Remove the unpacked files of all images, as a damaged disk does. What containerd knows of them stays."""
    daemon = engine.socket.with_name("data") / "containerd" / "daemon"
    for snapshot in (daemon / "io.containerd.snapshotter.v1.overlayfs" / "snapshots").iterdir():
        shutil.rmtree(snapshot)


def test_a_release_that_can_run_is_ready_without_a_login(unlocked: Scene) -> None:
    before = Inventory.of(unlocked.engine)
    unlocked.device.api.forget_requests()
    assert unlocked.operator.unlock("a wrong password") == READY
    assert unlocked.device.api.requests() == []
    assert Inventory.of(unlocked.engine) == before


def test_a_release_that_cannot_run_any_more_does_not_stay_ready(unlocked: Scene, engine: Engine) -> None:
    """The loader that has unlocked it is asked once more."""
    assert unlocked.operator.unlock() == READY
    break_snapshots(engine)
    assert unlocked.operator.posted() != "ready"
    assert_failed(unlocked.operator.rest(), "ENGINE_REJECTED")


def test_a_release_that_cannot_run_is_not_ready_and_the_error_says_what_to_remove(
    unlocked: Scene, engine: Engine
) -> None:
    break_snapshots(engine)
    assert_failed(unlocked.operator.unlock(), "ENGINE_REJECTED")
    assert f"`docker image rm {NAMES[0]}`" in unlocked.operator.document()["hint"]
    # All of them share layers.
    for name in Inventory.of(engine).names:
        engine.client.api.remove_image(name)
    assert unlocked.operator.unlock() == READY
