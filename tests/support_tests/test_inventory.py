"""Whatever a failed unlock changes in an engine is noticed, also through proxies; what succeeds may change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.archives import APP, DATABASE, PREFIX, remove_all_images
from tests.support.engines import Engine, engine_of
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.images import image_id, remove_image
from tests.support.inventory import Inventory, UnlockComparison, engine_behind, require_inventory
from tests.support.recording_proxy import RecordingProxy

IMAGES = (HandmadeImage(APP), HandmadeImage(DATABASE, (HandmadeLayer(b"other"),)))
VOLUME = "azaion-test-volume"


@pytest.fixture(scope="module")
def private_engine() -> Iterator[Engine]:
    """A Docker engine that the tests may empty, which is never that of the machine."""
    with engine_of("docker_engine") as engine:
        yield engine


@pytest.fixture
def engine(private_engine: Engine) -> Iterator[Engine]:
    """The engine with two images and a container."""
    api = private_engine.client.api
    list(api.load_image(b"".join(docker_archive(*IMAGES))))
    api.create_container(APP, "/run", name="kept")
    yield private_engine
    for container in api.containers(all=True):
        api.remove_container(container["Id"], v=True)
    for volume in api.volumes()["Volumes"] or []:
        api.remove_volume(volume["Name"])
    remove_all_images(private_engine)


def add_name(engine: Engine) -> None:
    engine.client.api.tag(APP, f"{PREFIX}more", "1")


def move_name(engine: Engine) -> None:
    engine.client.api.tag(DATABASE, *APP.split(":"))


def remove_name(engine: Engine) -> None:
    remove_image(engine, DATABASE)


def leave_image(engine: Engine) -> None:
    """Load a new image, and give its name back to the one that had it."""
    list(engine.client.api.load_image(b"".join(docker_archive(HandmadeImage(DATABASE, (HandmadeLayer(b"new"),))))))
    engine.client.api.tag(IMAGES[1].image.config, *DATABASE.split(":"))


def add_container(engine: Engine) -> None:
    engine.client.api.create_container(APP, "/run")


def remove_container(engine: Engine) -> None:
    engine.client.api.remove_container("kept")


def add_volume(engine: Engine) -> None:
    engine.client.api.create_volume(VOLUME)


CHANGES = [add_name, move_name, remove_name, leave_image, add_container, remove_container, add_volume]


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The host of a proxy in front of a proxy in front of the engine."""
    with ExitStack() as running:
        first = running.enter_context(RecordingProxy(tmp_path / "first.sock", engine.socket))
        second = running.enter_context(RecordingProxy(tmp_path / "second.sock", tmp_path / "first.sock"))
        yield second.host
        assert first.requests == []  # the inventory is no request of a loader
    assert engine_behind(second.host) is None


@pytest.mark.parametrize("change", CHANGES)
def test_a_failed_unlock_that_changes_an_engine_is_noticed(
    engine: Engine, host: str, change: Callable[[Engine], None]
) -> None:
    comparison = UnlockComparison(host)
    comparison.start()
    change(engine)
    with pytest.raises(AssertionError, match=r"(more|less): Inventory"):
        comparison.end("no")


def test_an_unlock_that_succeeds_may_change_an_engine(engine: Engine, host: str) -> None:
    comparison = UnlockComparison(host)
    comparison.start()
    move_name(engine)
    comparison.end(None)
    comparison.start()
    comparison.end("no")


def test_a_test_leaves_out_only_its_next_unlock(engine: Engine, host: str) -> None:
    comparison = UnlockComparison(host)
    comparison.leave_out("this test changes the engine")
    comparison.start()
    add_name(engine)
    comparison.end("no")
    comparison.start()
    move_name(engine)
    with pytest.raises(AssertionError):
        comparison.end("no")


def test_a_host_without_an_engine_of_the_tests_is_not_compared(tmp_path: Path) -> None:
    assert engine_behind(f"unix://{tmp_path}/docker.sock") is None
    comparison = UnlockComparison(f"unix://{tmp_path}/docker.sock")
    comparison.start()
    comparison.end("no")


def test_an_inventory_may_be_reached_later(engine: Engine) -> None:
    before = Inventory.of(engine)
    require_inventory(engine, before)
    add_name(engine)
    with pytest.raises(AssertionError, match=f"{PREFIX}more"):
        require_inventory(engine, before, within=0.1)
    assert Inventory.of(engine).without(before).names == {f"docker.io/{PREFIX}more:1": image_id(engine, APP)}
