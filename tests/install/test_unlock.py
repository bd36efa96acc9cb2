"""Installations while a loader runs, with a real engine: the unlock that runs, and the one after it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.archives import APP, ARCHITECTURE, DATABASE
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id
from tests.support.loader_server import run_loader
from tests.support.thin_archives import BOTTOM, thin_of
from tests.support.unlocking import READY, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MODES = ("tar", "stream")
DATABASES = HandmadeImage(DATABASE, (BOTTOM,), architecture=ARCHITECTURE)


def app(number: int) -> HandmadeImage:
    top = HandmadeLayer(f"release {number}".encode(), 100, "top")
    return HandmadeImage(APP, (BOTTOM, top), architecture=ARCHITECTURE)


@pytest.fixture
def full(tmp_path: Path) -> list[Path]:
    """Three releases of version 1.4."""
    return [seal(tmp_path / f"{number}.enc", [app(number), DATABASES], serial=number) for number in range(3)]


def thin(full: list[Path], number: int) -> Path:
    path = full[number].with_name(f"thin-{number}.enc")
    path.write_bytes(thin_of(full[number], full[number - 1]))
    return path


def install(device: UnlockDevice, path: Path) -> subprocess.CompletedProcess[str]:
    return run_loader(path.parent, "images", "install", str(path), IMAGES_PATH=str(device.archive), API_VERSION="1.4")


def assert_unlocked(engine: Engine, image: HandmadeImage) -> None:
    assert image_id(engine, APP) in image.image.ids


@pytest.mark.parametrize("mode", MODES)
def test_thin_archives_are_installed_and_unlocked(
    mode: str, docker: Engine, unlock_device: UnlockDevice, full: list[Path]
) -> None:
    unlock_device.put(full[0])
    operator = unlock_device.start(docker.host, UNLOCK_MODE=mode)
    assert operator.unlock() == READY
    for number in (1, 2):
        done = install(unlock_device, thin(full, number))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{unlock_device.archive}: release 1.4 is installed\n"
        assert operator.get("/unlock/plan")["done"] is False
        assert operator.unlock() == READY
        assert_unlocked(docker, app(number))
        assert operator.get("/unlock/plan")["done"] is True


@pytest.mark.parametrize("mode", MODES)
def test_an_unlock_that_runs_ends_with_the_archive_that_it_has_opened(
    mode: str, docker: Engine, wire: FaultyWire, unlock_device: UnlockDevice, full: list[Path]
) -> None:
    """Its blobs lie in the directory of the archive, from which the installation of a full archive removes them."""
    unlock_device.put(full[0])
    assert install(unlock_device, thin(full, 1)).returncode == 0
    operator = unlock_device.start(wire.host, UNLOCK_MODE=mode)
    wire.hold_upload(after=1 << 20)
    operator.posted()
    wire.wait_until_held()
    assert install(unlock_device, full[2]).returncode == 0
    assert not unlock_device.archive.with_suffix(".blobs").exists()
    wire.release()
    assert operator.rest() == READY
    assert_unlocked(docker, app(1))
    assert operator.unlock() == READY
    assert_unlocked(docker, app(2))


def test_a_thin_archive_that_was_copied_over_the_former_ends_before_any_login(
    docker: Engine, unlock_device: UnlockDevice, full: list[Path]
) -> None:
    unlock_device.put(full[0])
    operator = unlock_device.start(docker.host)
    assert operator.unlock() == READY
    unlock_device.api.forget_requests()
    unlock_device.put(thin(full, 1))
    assert operator.unlock().code == "ARCHIVE_INCOMPLETE"
    assert "images install" in operator.document()["hint"]
    assert unlock_device.api.requests() == []
    refused = install(unlock_device, thin(full, 2))
    assert refused.returncode == 7
    assert refused.stderr.endswith(" (ARCHIVE_INCOMPLETE)\n")
    assert install(unlock_device, full[1]).returncode == 0
    assert operator.unlock() == READY
    assert_unlocked(docker, app(1))


def test_an_installation_needs_the_version_of_the_device(unlock_device: UnlockDevice, full: list[Path]) -> None:
    env = {"IMAGES_PATH": str(unlock_device.archive)}
    for version, code in (("1.5", 7), ("", 2)):
        done = run_loader(full[0].parent, "images", "install", str(full[0]), API_VERSION=version, **env)
        assert done.returncode == code, done.stderr
    assert not unlock_device.archive.exists()
