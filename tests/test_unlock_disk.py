"""Unlocks on a disk that is full, or that nobody may write to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.archives import Packed
from tests.support.engines import Engine
from tests.support.images import has_image
from tests.support.resource_api_server import ResourceApiServer
from tests.support.small_disk import fill, free_bytes, make_read_only, make_writable, small_disk
from tests.support.unlocking import READY, Device, Operator, Status, is_sentence

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
DISK_SIZE = 10 * MIB  # the archive and its tar have a little more than 3 MiB each


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_SIZE) as directory:
        yield directory


@pytest.fixture
def small_device(disk: Path, unlock_api: ResourceApiServer, start_loader: StartLoader, packed: Packed) -> Device:
    """A device with an archive, on a small disk."""
    (disk / "models").mkdir()
    device = Device(disk, unlock_api, start_loader)
    device.put(packed.path)
    return device


def start(device: Device, docker: Engine) -> Operator:
    return device.start(docker.host, IMAGES_PATH=str(device.archive), MODEL_CACHE_DIR=str(device.remembered.parent))


def assert_failed(status: Status, code: str) -> None:
    assert (status.state, status.code) == ("error", code)
    assert is_sentence(status.error)


def test_a_disk_that_fills_up_ends_the_unlock_and_is_as_it_was(
    small_device: Device, docker: Engine, packed: Packed
) -> None:
    filler = fill(small_device.directory, leave=2 * MIB)
    free = free_bytes(small_device.directory)
    operator = start(small_device, docker)
    status = operator.unlock()
    assert_failed(status, "DISK_SPACE")
    assert str(small_device.tar) in str(status.error)
    assert str(packed.manifest.tar_size) in str(status.error)
    assert free_bytes(small_device.directory) == free
    assert sorted(small_device.directory.iterdir()) == sorted(
        [filler, small_device.archive, small_device.remembered.parent]
    )
    assert not has_image(docker, packed.images[0].reference)

    filler.unlink()
    assert operator.unlock() == READY


def test_a_read_only_disk_ends_the_unlock(small_device: Device, docker: Engine) -> None:
    operator = start(small_device, docker)
    make_read_only(small_device.directory)
    status = operator.unlock()
    assert_failed(status, "STORAGE_ERROR")
    assert str(small_device.tar) in str(status.error)

    make_writable(small_device.directory)
    assert operator.unlock() == READY


def test_a_full_cache_directory_does_not_undo_an_unlock(
    device: Device, disk: Path, docker: Engine, packed: Packed
) -> None:
    fill(disk, leave=0)
    device.put(packed.path)
    operator = device.start(docker.host, MODEL_CACHE_DIR=str(disk))
    assert operator.unlock() == READY
    assert any("could not be remembered" in message for message in operator.log_messages("WARNING"))
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_an_archive_that_cannot_be_read_ends_the_unlock(device: Device, docker: Engine) -> None:
    device.archive.mkdir()
    status = device.start(docker.host).unlock()
    assert_failed(status, "STORAGE_ERROR")
    assert str(device.archive) in str(status.error)
