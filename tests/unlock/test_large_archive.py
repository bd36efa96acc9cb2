"""Unlocks of an archive that is much larger than the allowed memory and, in mode stream, than the disk."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from loader.crypto.archive_head import GZIP, PLAIN
from tests.conftest import StartLoader
from tests.support.archives import APP, DATABASE
from tests.support.disk_search import contains, files_below, open_files
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image
from tests.support.left_files import left
from tests.support.processes import poll
from tests.support.procfs import peak_rss_bytes, reset_peak_rss
from tests.support.recording_proxy import RecordingProxy
from tests.support.resource_api_server import ResourceApiServer
from tests.support.small_disk import read_only_view, small_disk
from tests.support.unlocking import LOAD, READY, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
IMAGE_MIB = 160
MARKER = os.urandom(64)  # fills the image, so that any piece of its tar contains it
SMALL_DISK_SIZE = 32 * MIB
MIB_BEYOND_MEMORY = 160
MOST_GROWTH = 32 * MIB
TAR_SECONDS = 30.0
SAMPLE_SECONDS = 0.05
MANY_LOOKS = 20
# Pauses before each segment, so that there is time to look.
SLOWLY = json.dumps({"loader.unlock.progress.UnlockProgress.reach": 0.02})


@pytest.fixture(scope="module")
def large_device_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A device whose archive holds an image of 160 MiB."""
    directory = tmp_path_factory.mktemp("large")
    (directory / "models").mkdir()
    block = (MARKER * (MIB // len(MARKER)))[:MIB]
    archive = seal(directory / "images.enc", [HandmadeImage(APP, (HandmadeLayer(block, IMAGE_MIB),))])
    yield directory
    archive.unlink()


@pytest.fixture
def large_device(large_device_dir: Path, unlock_api: ResourceApiServer, start_loader: StartLoader) -> UnlockDevice:
    return UnlockDevice(large_device_dir, unlock_api, start_loader)


def settings(unlock_device: UnlockDevice) -> dict[str, str]:
    return {"IMAGES_PATH": str(unlock_device.archive), "MODEL_CACHE_DIR": str(unlock_device.remembered.parent)}


def test_a_loader_stopped_while_decrypting_leaves_no_tar_and_sends_nothing(
    large_device: UnlockDevice, recorded_docker: RecordingProxy
) -> None:
    operator = large_device.start(recorded_docker.host, HASTE=SLOWLY, **settings(large_device))
    operator.post()
    poll(large_device.tar.exists, TAR_SECONDS, "the tar is being written")
    operator.loader.process.send_signal(signal.SIGTERM)
    assert operator.loader.stop() == 0
    audits = [line for line in operator.loader.log_lines() if line.get("event") == "unlock"]
    assert [line["code"] for line in audits] == ["INTERRUPTED"]
    assert not large_device.tar.exists()
    assert recorded_docker.sent("POST", LOAD) == []


@pytest.mark.parametrize(("mode", "codec"), [("tar", PLAIN), ("tar", GZIP), ("stream", PLAIN), ("stream", GZIP)])
def test_an_unlock_needs_little_memory(unlock_device: UnlockDevice, docker: Engine, mode: str, codec: str) -> None:
    """Two images, so that what belongs to one of them is not kept for the next."""
    half = MIB_BEYOND_MEMORY // 2
    layers = [HandmadeLayer(os.urandom(MIB), half, name) for name in ("a", "b")]
    images = [HandmadeImage(APP, (layers[0],)), HandmadeImage(DATABASE, tuple(layers))]
    seal(unlock_device.archive, images, codec=codec)
    operator = unlock_device.start(docker.host, UNLOCK_MODE=mode)
    operator.status()
    worker = operator.loader.worker_pid
    reset_peak_rss(worker)
    before = peak_rss_bytes(worker)
    assert operator.unlock() == READY
    assert peak_rss_bytes(worker) - before < MOST_GROWTH
    assert has_image(docker, DATABASE)


def test_a_bomb_ends_the_unlock_in_little_memory_and_leaves_nothing(
    unlock_device: UnlockDevice, docker: Engine
) -> None:
    """The gzip of a layer of 2 MiB inflates to 256 MiB."""
    image = HandmadeImage(APP, (HandmadeLayer(bytes(MIB), 2),))
    seal(unlock_device.archive, [image], codec=GZIP, lies={image.image.layers[0]: bytes(256 * MIB)})
    for mode in ("tar", "stream"):
        operator = unlock_device.start(docker.host, UNLOCK_MODE=mode)
        operator.status()
        worker = operator.loader.worker_pid
        reset_peak_rss(worker)
        before = peak_rss_bytes(worker)
        assert_failed(operator.unlock(), "ARCHIVE_CORRUPT")
        assert peak_rss_bytes(worker) - before < MOST_GROWTH
        assert not unlock_device.tar.exists()
        assert not has_image(docker, APP)
        operator.loader.stop()


class Sampler:
    """Searches every file that a process has open, and every new file in some directories, until it is stopped.

    `found` lists the files that contained a piece of the tar; `looks` counts the rounds.
    """

    def __init__(self, pid: int, directories: Sequence[Path], read_only: Path) -> None:
        self.found: list[str] = []
        self.looks = 0
        self._pid = pid
        self._directories = directories
        self._read_only = read_only.stat()
        self._since = time.time() - 1
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.is_set():
            self.looks += 1
            opened = [path for path in open_files(self._pid) if not self._is_archive(path)]
            named = files_below(self._directories, changed_since=self._since)
            self.found += [str(path) for path in (*opened, *named) if contains(path, MARKER)]
            self._stopped.wait(SAMPLE_SECONDS)

    def _is_archive(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:  # the file was closed after it was listed
            return True
        return (status.st_dev, status.st_ino) == (self._read_only.st_dev, self._read_only.st_ino)


def test_mode_stream_never_writes_plaintext_to_a_file(
    large_device_dir: Path, large_device: UnlockDevice, docker: Engine, tmp_path: Path
) -> None:
    """The archive lies on a read-only disk, and the disk that the loader may write to has a fifth of its size."""
    with (
        read_only_view(large_device_dir, tmp_path / "big") as big,
        small_disk(tmp_path / "small", SMALL_DISK_SIZE) as small,
    ):
        for name in ("models", "tmp"):
            (small / name).mkdir()
        operator = large_device.start(
            docker.host,
            UNLOCK_MODE="stream",
            HASTE=SLOWLY,
            IMAGES_PATH=str(big / "images.enc"),
            MODEL_CACHE_DIR=str(small / "models"),
            TMPDIR=str(small / "tmp"),
        )
        operator.status()
        worker = operator.loader.worker_pid
        reset_peak_rss(worker)
        before = peak_rss_bytes(worker)
        home = operator.loader.process.stderr_path.parent
        places = (small, home, Path("/dev/shm"), Path("/var/tmp"))
        with Sampler(worker, places, big / "images.enc") as sampler:
            assert operator.unlock() == READY
        assert sampler.looks > MANY_LOOKS
        assert sampler.found == []
        assert peak_rss_bytes(worker) - before < MOST_GROWTH
        names = [path.name for path in left(small.rglob("*")) if path.is_file()]
        assert names == ["release-mark.json", "unlocked-manifest.json"]
        operator.loader.stop()
    assert has_image(docker, APP)


def test_the_sampler_finds_a_tar(large_device: UnlockDevice, recorded_docker: RecordingProxy) -> None:
    """Mode tar writes a tar, which the sampler must find."""
    operator = large_device.start(recorded_docker.host, HASTE=SLOWLY, **settings(large_device))
    operator.status()
    with Sampler(operator.loader.worker_pid, [], large_device.archive) as sampler:
        operator.post()
        poll(lambda: sampler.found, TAR_SECONDS, "the sampler finds the tar")
    assert operator.loader.stop() == 0
