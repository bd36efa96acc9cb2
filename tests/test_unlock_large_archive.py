"""Unlocks of an archive that is much larger than the memory that they may take."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.archives import APP, seal
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage
from tests.support.images import has_image
from tests.support.processes import poll
from tests.support.procfs import peak_rss_bytes, reset_peak_rss
from tests.support.recording_proxy import RecordingProxy
from tests.support.resource_api_server import ResourceApiServer
from tests.support.unlocking import LOAD, READY, Device

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
IMAGE_MIB = 512
MOST_GROWTH = 64 * MIB
TAR_SECONDS = 30.0


@pytest.fixture(scope="module")
def large_device_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A device with an archive of an image of 512 MiB."""
    directory = tmp_path_factory.mktemp("large")
    (directory / "models").mkdir()
    image = HandmadeImage(APP, os.urandom(MIB), IMAGE_MIB)
    archive = seal(directory / "images.enc", [image.described()], image.tar(), image.tar_size())
    yield directory
    archive.unlink()


@pytest.fixture
def large_device(large_device_dir: Path, unlock_api: ResourceApiServer, start_loader: StartLoader) -> Device:
    return Device(large_device_dir, unlock_api, start_loader)


def settings(device: Device) -> dict[str, str]:
    return {"IMAGES_PATH": str(device.archive), "MODEL_CACHE_DIR": str(device.remembered.parent)}


def test_stopped_while_decrypting_the_loader_leaves_no_tar_and_has_sent_nothing(
    large_device: Device, recorded_docker: RecordingProxy
) -> None:
    operator = large_device.start(recorded_docker.host, **settings(large_device))
    operator.post()
    poll(large_device.tar.exists, TAR_SECONDS, "the tar is being written")
    operator.loader.process.send_signal(signal.SIGTERM)
    assert operator.loader.stop() == 0
    audits = [line for line in operator.loader.log_lines() if line.get("event") == "unlock"]
    assert [line["code"] for line in audits] == ["INTERRUPTED"]
    assert not large_device.tar.exists()
    assert recorded_docker.sent("POST", LOAD) == []


def test_an_unlock_needs_little_memory(large_device: Device, docker: Engine) -> None:
    operator = large_device.start(docker.host, **settings(large_device))
    operator.status()
    worker = operator.loader.worker_pid
    reset_peak_rss(worker)
    before = peak_rss_bytes(worker)
    assert operator.unlock() == READY
    assert peak_rss_bytes(worker) - before < MOST_GROWTH
    assert has_image(docker, APP)
