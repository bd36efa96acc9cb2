"""UNLOCK_MODE=stream: authenticated in a first pass, decrypted to the engine in a second one."""

from __future__ import annotations

import os

import pytest

from tests.support.archives import APP, Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image, import_image, unnamed_images
from tests.support.unlocking import READY, Rig, Status, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

RIG_ENV = {"UNLOCK_MODE": "stream"}
MIB = 1 << 20
IMAGE_MIB = 24  # much more than the buffers between the loader and an engine that reads nothing


def test_the_images_reach_docker_without_a_tar_on_the_disk(rig: Rig, packed: Packed) -> None:
    rig.unlock_until_held(packed.path, MIB)
    assert rig.operator.status() == Status("loading_images", None, None)
    assert sorted(rig.device.directory.iterdir()) == [rig.device.archive, rig.device.remembered.parent]
    rig.wire.release()
    assert rig.operator.rest() == READY
    assert all(has_image(rig.engine, image.reference) for image in packed.images)
    assert [load.body_bytes for load in rig.loads] == packed.sent
    assert rig.device.remembered.exists()


def test_the_images_reach_podman(unlock_device: UnlockDevice, podman: Engine, packed: Packed) -> None:
    unlock_device.put(packed.path)
    assert unlock_device.start(podman.host, UNLOCK_MODE="stream").unlock() == READY
    assert all(has_image(podman, image.reference) for image in packed.images)


@pytest.mark.parametrize("position", [-1, -MIB, -2 * MIB, -3 * MIB], ids=str)
def test_nothing_of_a_damaged_archive_reaches_the_engine(rig: Rig, packed: Packed, position: int) -> None:
    def flip(data: bytearray) -> None:
        data[position] ^= 1

    rig.device.put(packed.path)
    rig.device.change(flip)
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.loads == []


def test_nothing_for_another_key_fragment_reaches_the_engine(rig: Rig) -> None:
    seal(rig.device.archive, [HandmadeImage(APP)], fragment=FRAGMENT[::-1])
    assert_failed(rig.operator.unlock(), "KEY_MISMATCH")
    assert rig.loads == []


@pytest.mark.parametrize("change", ["flipped", "cut"])
def test_an_archive_that_changes_between_the_passes_leaves_nothing_in_the_engine(rig: Rig, change: str) -> None:
    seal(rig.device.archive, [HandmadeImage(APP, (HandmadeLayer(os.urandom(MIB), IMAGE_MIB),))])
    before = import_image(rig.engine, APP)
    rig.wire.hold_upload(after=2 * MIB)
    rig.operator.post()
    rig.wire.wait_until_held()
    size = rig.device.archive.stat().st_size
    if change == "cut":
        os.truncate(rig.device.archive, size - MIB)
    else:
        with rig.device.archive.open("r+b") as file:
            file.seek(size - MIB)
            file.write(os.urandom(16))
    rig.wire.release()
    assert_failed(rig.operator.rest(), "ARCHIVE_CORRUPT")
    assert len(rig.loads) == 1
    assert [image.id for image in rig.engine.client.images.list(APP)] == [before]
    assert tags_of_tests(rig.engine) == [APP]
    assert unnamed_images(rig.engine) == []
