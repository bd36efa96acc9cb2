"""Fetches beside unlocks, with a real engine: a fetch touches nothing that runs, and the next unlock takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loader.install import install
from tests.fetch.published import Fetcher, objects, write_objects
from tests.packing.packs import unwatched
from tests.support.archives import APP, ARCHITECTURE, DATABASE
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.http_calls import login
from tests.support.images import image_id
from tests.support.thin_archives import BOTTOM
from tests.support.unlocking import EMAIL, PASSWORD, READY, Operator, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

DATABASES = HandmadeImage(DATABASE, (BOTTOM,), architecture=ARCHITECTURE)


def app(number: int) -> HandmadeImage:
    """Return the image that is another one in each release."""
    top = HandmadeLayer(f"release {number}".encode(), 100, "top")
    return HandmadeImage(APP, (BOTTOM, top), architecture=ARCHITECTURE)


@pytest.fixture
def full(tmp_path: Path) -> list[Path]:
    """Two releases of version 1.4."""
    return [seal(tmp_path / f"{number}.enc", [app(number), DATABASES], serial=number) for number in (1, 2)]


def publish_and_fetch(device: UnlockDevice, operator: Operator, archive: Path) -> None:
    """Publish a release, and fetch it with a login of its own."""
    write_objects(device.api.data_dir / "resources", objects(archive, "1.4"))
    assert login(operator.loader.url, {"email": EMAIL, "password": PASSWORD}).status == 200
    report = Fetcher(operator.loader.url, device.archive).fetch()
    assert report["state"] == "fetched", report


@pytest.mark.parametrize("mode", ["tar", "stream"])
def test_what_was_fetched_is_unlocked(mode: str, docker: Engine, unlock_device: UnlockDevice, full: list[Path]) -> None:
    operator = unlock_device.start(docker.host, UNLOCK_MODE=mode)
    for number, archive in enumerate(full, 1):
        publish_and_fetch(unlock_device, operator, archive)
        assert operator.get("/unlock/plan")["done"] is False
        assert operator.unlock() == READY
        assert image_id(docker, APP) in app(number).image.ids


def test_a_fetch_beside_an_unlock(
    docker: Engine, wire: FaultyWire, unlock_device: UnlockDevice, full: list[Path]
) -> None:
    """The unlock ends with the release that it has opened, whose blobs are gone by then."""
    operator = unlock_device.start(wire.host, UNLOCK_MODE="stream")
    publish_and_fetch(unlock_device, operator, full[0])
    wire.hold_upload(after=1 << 20)
    operator.posted()
    wire.wait_until_held()
    publish_and_fetch(unlock_device, operator, full[1])
    assert operator.get("/unlock/status")["state"] == "loading_images"
    wire.release()
    assert operator.rest() == READY
    assert image_id(docker, APP) in app(1).image.ids
    assert operator.unlock() == READY
    assert image_id(docker, APP) in app(2).image.ids


@pytest.mark.long
def test_an_unlock_beside_a_fetch(docker: Engine, unlock_device: UnlockDevice, full: list[Path]) -> None:
    """The unlock takes the release that is in its place, and the fetch goes on."""
    slow = json.dumps({"loader.fetch.blobs.WantedStream.readinto": 4.0})
    operator = unlock_device.start(docker.host, HASTE=slow)
    install(full[0], unlock_device.archive, "1.4", unwatched)
    write_objects(unlock_device.api.data_dir / "resources", objects(full[1], "1.4"))
    assert login(operator.loader.url, {"email": EMAIL, "password": PASSWORD}).status == 200
    fetcher = Fetcher(operator.loader.url, unlock_device.archive)
    assert fetcher.start().status == 200
    fetcher.wait({"downloading"})
    operator.posted()
    assert fetcher.status()["state"] == "downloading"
    assert operator.rest() == READY
    assert image_id(docker, APP) in app(1).image.ids
    assert fetcher.wait()["state"] == "fetched"
    fetcher.require(full[1])
    assert operator.unlock() == READY
    assert image_id(docker, APP) in app(2).image.ids
