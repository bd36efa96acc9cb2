"""Unlocks on a real disk that is too small, fills up during the unlock, or is read-only."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loader.unlock.layers import layouts_of
from loader.unlock.room import JOURNAL_SIZE
from tests.conftest import StartLoader
from tests.support.archives import APP, Packed, head_of, remove_all_images
from tests.support.engines import Engine, engine_of
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image
from tests.support.left_files import left
from tests.support.resource_api_server import ResourceApiServer
from tests.support.small_disk import fill, free_bytes, make_read_only, make_writable, small_disk
from tests.support.unlocking import LOAD, READY, Operator, UnlockDevice
from tests.unlock.conftest import assert_failed, is_sentence

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
DISK_SIZE = 11 * MIB  # the archive and its tars need a little more than 3 MiB each
ADVICE = "UNLOCK_MODE=stream"
KEY_FRAGMENT = "/binary-split/key-fragment"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_SIZE) as directory:
        yield directory


@pytest.fixture
def small_device(disk: Path, unlock_api: ResourceApiServer, start_loader: StartLoader, packed: Packed) -> UnlockDevice:
    """A device with an archive, on a small disk."""
    (disk / "models").mkdir()
    unlock_device = UnlockDevice(disk, unlock_api, start_loader)
    unlock_device.put(packed.path)
    return unlock_device


def loads_nothing(call: FakeCall) -> None:
    call.respond(200, {"stream": "nothing"})


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    """An engine without images. A test sets the root directory that it reports."""
    with FakeEngine(tmp_path / "fake.sock", loads_nothing) as engine:
        yield engine


def for_the_engine(packed: Packed) -> int:
    """Return what the classic store needs: a copy of the largest tar, and the layers."""
    layers = {layer for image in packed.images for layer in image.layers}
    return max(packed.sent) + sum(packed.head.blob[layer].size for layer in layers)


def start(unlock_device: UnlockDevice, engine_host: str, **env: str) -> Operator:
    paths = {"IMAGES_PATH": str(unlock_device.archive), "MODEL_CACHE_DIR": str(unlock_device.remembered.parent)}
    return unlock_device.start(engine_host, **paths, **env)


@dataclass(frozen=True)
class Refusal:
    """The status of an unlock that was refused before the login, and the bytes free before."""

    document: dict[str, Any]
    free: int

    @property
    def error(self) -> str:
        return str(self.document["error"])

    @property
    def advises_stream(self) -> bool:
        return ADVICE in str(self.document["hint"])


def refused(unlock_device: UnlockDevice, operator: Operator, disk: Path, code: str) -> Refusal:
    """Unlock, and require that it is refused before a login and changes nothing on the disk."""
    before = (free_bytes(disk), left(disk.rglob("*")))
    planned = operator.get("/unlock/plan")["failure"]
    assert_failed(operator.unlock(), code)
    refusal = Refusal(operator.document(), before[0])
    # The detail of the plan may name another number of free bytes.
    assert planned.keys() == {"detail", "code", "hint", "retryable"}
    assert all(planned[name] == refusal.document[name] for name in ("code", "hint", "retryable"))
    assert refusal.document["step"]["name"] == "checking"
    assert unlock_device.api.requests() == []
    free, files = before
    assert left(disk.rglob("*")) == files
    # The file of the last events takes a page.
    assert 0 <= free - free_bytes(disk) <= mmap.PAGESIZE
    assert refusal.document["retryable"] is True
    assert is_sentence(refusal.document["hint"])
    return refusal


def test_too_little_room_for_the_tar_is_found_before_the_login(
    small_device: UnlockDevice, disk: Path, docker: Engine, packed: Packed
) -> None:
    filler = fill(disk, leave=2 * MIB)
    operator = start(small_device, docker.host)
    refusal = refused(small_device, operator, disk, "DISK_SPACE")
    needed = f"{sum(packed.sent) + JOURNAL_SIZE} bytes are needed, {refusal.free} bytes are free."
    assert f"at {disk} and {disk}/models: {needed}" in refusal.error
    assert refusal.advises_stream
    assert not has_image(docker, packed.images[0].reference)

    filler.unlink()
    assert operator.unlock() == READY


def test_the_mode_stream_needs_no_room_for_a_tar(small_device: UnlockDevice, disk: Path, docker: Engine) -> None:
    fill(disk, leave=2 * JOURNAL_SIZE)
    assert start(small_device, docker.host, UNLOCK_MODE="stream").unlock() == READY


def test_too_little_room_for_the_journal_is_found_before_the_login(
    small_device: UnlockDevice, disk: Path, docker: Engine
) -> None:
    filler = fill(disk, leave=JOURNAL_SIZE // 2)
    operator = start(small_device, docker.host, UNLOCK_MODE="stream")
    plan = operator.get("/unlock/plan")
    assert plan["fits"] is False
    assert [place["paths"] for place in plan["places"] if not place["fits"]] == [[f"{disk}/models"]]
    refusal = refused(small_device, operator, disk, "DISK_SPACE")
    assert f"at {disk}/models: {JOURNAL_SIZE} bytes are needed" in refusal.error
    assert not refusal.advises_stream
    filler.unlink()
    assert operator.unlock() == READY


@pytest.mark.parametrize("mode", ["tar", "stream"])
def test_too_little_room_for_the_engine_is_found_before_the_login(
    unlock_device: UnlockDevice, disk: Path, fake: FakeEngine, packed: Packed, mode: str
) -> None:
    unlock_device.put(packed.path)
    fake.info = (200, {"DockerRootDir": str(disk), "DriverStatus": []})
    fill(disk, leave=5 * MIB)  # room for one tar is not enough, because the engine unpacks a copy
    refusal = refused(unlock_device, unlock_device.start(fake.host, UNLOCK_MODE=mode), disk, "DISK_SPACE")
    needed = f"at {disk}: {for_the_engine(packed)} bytes are needed, {refusal.free} bytes are free."
    assert needed in refusal.error
    # The tar lies on another disk, so that mode stream would change nothing there.
    assert not refusal.advises_stream


def test_tar_and_engine_on_one_disk_need_room_for_both(
    small_device: UnlockDevice, disk: Path, fake: FakeEngine, packed: Packed
) -> None:
    """The disk has about 8 MiB: enough for the tars or for the engine, but not for both."""
    root = disk / "docker"
    root.mkdir()
    fake.info = (200, {"DockerRootDir": str(root), "DriverStatus": []})
    both = sum(packed.sent) + for_the_engine(packed) + JOURNAL_SIZE
    assert for_the_engine(packed) < free_bytes(disk) < both
    operator = start(small_device, fake.host)
    refusal = refused(small_device, operator, disk, "DISK_SPACE")
    operator.loader.stop()
    assert f"{disk} and {root} and {disk}/models: {both} bytes are needed" in refusal.error
    assert refusal.advises_stream
    # The advice is right: without the tar there is enough room, and the load reaches the fake engine.
    assert start(small_device, fake.host, UNLOCK_MODE="stream").unlock().code == "IMAGE_MISMATCH"


@pytest.mark.parametrize(
    "info",
    [(200, {"DockerRootDir": "/nonexistent/docker"}), (200, {}), (403, {"message": "forbidden"})],
    ids=["not visible", "not told", "forbidden"],
)
def test_an_engine_whose_disk_cannot_be_read_does_not_count(
    unlock_device: UnlockDevice, fake: FakeEngine, packed: Packed, info: tuple[int, dict[str, Any]]
) -> None:
    unlock_device.put(packed.path)
    fake.info = info
    operator = unlock_device.start(fake.host)
    plan = operator.get("/unlock/plan")
    assert [place["paths"] for place in plan["places"]] == [
        [str(unlock_device.directory), f"{unlock_device.directory}/models"]
    ]
    assert plan["engine_answers"] is True
    assert operator.unlock().code == "IMAGE_MISMATCH"  # the load was sent, and the fake engine loads nothing


def test_a_read_only_disk_is_found_before_the_login(
    small_device: UnlockDevice, disk: Path, docker: Engine, tmp_path: Path
) -> None:
    operator = start(small_device, docker.host)
    make_read_only(disk)
    refusal = refused(small_device, operator, disk, "STORAGE_ERROR")
    assert str(disk) in refusal.error
    assert not refusal.advises_stream  # because the directory of the cache is on that disk too

    make_writable(disk)
    assert operator.unlock().state == "ready"
    operator.loader.stop()

    remove_all_images(docker)
    make_read_only(disk)
    small_device.api.forget_requests()
    paths = {"IMAGES_PATH": str(small_device.archive), "MODEL_CACHE_DIR": str(tmp_path / "models")}
    operator = small_device.start(docker.host, **paths)
    assert refused(small_device, operator, disk, "STORAGE_ERROR").advises_stream
    operator.loader.stop()
    # The advice is right: mode stream writes to the engine, and to the directory of the cache.
    assert small_device.start(docker.host, UNLOCK_MODE="stream", **paths).unlock() == READY


def test_a_disk_that_fills_up_during_the_key_download_ends_the_unlock_without_leftovers(
    small_device: UnlockDevice, disk: Path, docker: Engine, packed: Packed, slow_api: FaultyApi
) -> None:
    slow_api.answer("GET", KEY_FRAGMENT, Fault(body=slow_api.fragment, silent=True))
    operator = start(small_device, docker.host, RESOURCE_API_URL=slow_api.url)
    operator.post()
    operator.wait_for("downloading_key")
    filler = fill(disk, leave=2 * MIB)
    before = (free_bytes(disk), left(disk.rglob("*")))
    slow_api.resume()
    status = operator.rest()
    assert_failed(status, "DISK_SPACE")
    assert f"{small_device.tar} needs {packed.sent[0]} bytes" in str(status.error)
    assert (free_bytes(disk), left(disk.rglob("*"))) == before
    assert not has_image(docker, packed.images[0].reference)

    filler.unlink()
    assert operator.unlock() == READY


def test_the_containerd_store_needs_room_for_its_blobs_too(
    unlock_device: UnlockDevice, disk: Path, fake: FakeEngine, packed: Packed
) -> None:
    unlock_device.put(packed.path)
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    fake.info = (200, {"DockerRootDir": str(disk), "DriverStatus": status})
    fill(disk, leave=5 * MIB)
    refusal = refused(unlock_device, unlock_device.start(fake.host, UNLOCK_MODE="stream"), disk, "DISK_SPACE")
    needed = for_the_engine(packed) + min(packed.sent)  # two tars, of which the classic store copies the larger
    assert f"at {disk}: {needed} bytes are needed" in refusal.error


def packed_size(archive: Path) -> tuple[int, int]:
    """Return the sizes of the one tar and of all layers of an archive."""
    head = head_of(archive)
    (layout,) = layouts_of(head, set())
    return layout.size, sum(head.blob[layer].size for layer in layout.layers)


@pytest.mark.heavy
def test_an_engine_disk_that_fills_up_during_a_load_is_reported(
    unlock_device: UnlockDevice, tmp_path: Path, slow_api: FaultyApi
) -> None:
    image = HandmadeImage(APP, (HandmadeLayer(os.urandom(MIB), 12),))
    needed = sum(packed_size(seal(unlock_device.archive, [image])))
    with (
        small_disk(tmp_path / "engine", 40 * MIB) as disk,
        engine_of("docker_engine", disk / "data") as engine,
        FaultyWire(tmp_path / "own.sock", engine.socket, LOAD) as wire,
    ):
        operator = unlock_device.start(wire.host, RESOURCE_API_URL=slow_api.url)
        filler = fill(disk, leave=20 * MIB)
        before = unlock_device.api.requests()
        status = operator.unlock()
        assert_failed(status, "DISK_SPACE")
        assert f"at {disk / 'data'}: {needed} bytes are needed" in str(status.error)
        assert (slow_api.requests(), before) == ([], [])
        filler.unlink()

        wire.hold_upload(after=2 * MIB)
        operator.post()
        wire.wait_until_held()
        filler = fill(disk, leave=MIB)
        wire.release()
        status = operator.rest()
        assert_failed(status, "DISK_SPACE")
        assert "no space left on device" in str(status.error)
        assert engine.client.images.list(all=True) == []
        assert not unlock_device.tar.exists()

        filler.unlink()
        assert operator.unlock() == READY
        operator.loader.stop()


def test_a_full_cache_directory_ends_the_unlock_before_the_engine_changes(
    unlock_device: UnlockDevice, disk: Path, docker: Engine, packed: Packed
) -> None:
    """The journal must be on the disk before the first name moves."""
    filler = fill(disk, leave=0)
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, MODEL_CACHE_DIR=str(disk))
    assert_failed(operator.unlock(), "DISK_SPACE")
    assert str(disk) in str(operator.status().error)
    assert left(disk.iterdir()) == [filler]
    assert not any(has_image(docker, image.reference) for image in packed.images)

    filler.unlink()
    assert operator.unlock() == READY


def test_a_directory_in_the_place_of_the_archive_ends_the_unlock(unlock_device: UnlockDevice, docker: Engine) -> None:
    unlock_device.archive.mkdir()
    status = unlock_device.start(docker.host).unlock()
    assert_failed(status, "ARCHIVE_CORRUPT")
    assert str(unlock_device.archive) in str(status.error)
