"""Unlocks of images that are present already, and of a new archive that replaces old images."""

from __future__ import annotations

import os

import pytest

from tests.support.archives import APP, DATABASE, Packed
from tests.support.engines import Engine
from tests.support.faulty_api import FaultyApi
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id, import_image, remove_image, unnamed_images
from tests.support.recording_proxy import RecordingProxy
from tests.support.sites import NO_ENGINE
from tests.support.unlocking import READY, Rig, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20


@pytest.mark.parametrize("mode", ["tar", "stream"])
def test_present_images_are_ready_without_a_network(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, slow_api: FaultyApi, mode: str
) -> None:
    docker.client.images.load(packed.plain_tar.read_bytes())
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, RESOURCE_API_URL=slow_api.url, UNLOCK_MODE=mode)
    assert operator.unlock("any password") == READY
    assert slow_api.requests() == []
    assert slow_api.open_connections == 0


def test_an_engine_that_is_down_does_not_count_as_one_without_images(
    unlock_device: UnlockDevice, packed: Packed
) -> None:
    unlock_device.put(packed.path)
    status = unlock_device.start(NO_ENGINE).unlock()
    assert (status.state, status.code) == ("error", "ENGINE_UNAVAILABLE")
    assert unlock_device.api.requests() == []


def new_image() -> HandmadeImage:
    return HandmadeImage(APP, (HandmadeLayer(os.urandom(4096)),))


def unlocked_first_of_two(rig: Rig) -> tuple[HandmadeImage, HandmadeImage]:
    """Make two images with the same reference, and unlock an archive of the first."""
    old, new = (new_image() for _ in range(2))
    seal(rig.device.archive, [old])
    assert rig.operator.unlock() == READY
    return old, new


def replace_archive(rig: Rig, image: HandmadeImage) -> None:
    sealed = rig.device.archive.with_name("new")
    seal(sealed, [image])
    sealed.replace(rig.device.archive)


def test_a_new_archive_replaces_the_images_of_the_old_one(rig: Rig) -> None:
    old, new = unlocked_first_of_two(rig)
    assert image_id(rig.engine, APP) == old.image.config
    replace_archive(rig, new)
    assert rig.operator.posted() == "authenticating"
    assert rig.operator.rest() == READY
    assert image_id(rig.engine, APP) == new.image.config
    assert unnamed_images(rig.engine) == []
    assert len(rig.loads) == 2


def test_an_old_image_that_a_container_uses_stays(rig: Rig) -> None:
    old, new = unlocked_first_of_two(rig)
    container = rig.engine.client.api.create_container(APP, command=["/bin/true"])
    try:
        # The first image is kept for a way back, then loses its last name.
        for image, unnamed in ((new, []), (new_image(), [old.image.config])):
            replace_archive(rig, image)
            assert rig.operator.unlock() == READY
            assert unnamed_images(rig.engine) == unnamed
    finally:
        rig.engine.client.api.remove_container(container)


def test_an_old_image_that_has_another_name_stays(rig: Rig) -> None:
    old, new = unlocked_first_of_two(rig)
    kept = DATABASE
    repository, _, tag = kept.partition(":")
    rig.engine.client.api.tag(APP, repository, tag)
    replace_archive(rig, new)
    assert rig.operator.unlock() == READY
    assert image_id(rig.engine, kept) == old.image.config
    assert unnamed_images(rig.engine) == []


def test_a_new_archive_replaces_the_image_in_podman(unlock_device: UnlockDevice, podman: Engine) -> None:
    old = import_image(podman, APP)
    seal(unlock_device.archive, [new_image()])
    assert unlock_device.start(podman.host).unlock() == READY
    assert image_id(podman, APP) != old
    assert unnamed_images(podman) == []
    remove_image(podman, APP)


def test_images_that_were_removed_after_ready_are_loaded_again(rig: Rig) -> None:
    """The archive has not changed; only the engine knows that the images are gone."""
    image, _ = unlocked_first_of_two(rig)
    assert rig.operator.posted() == "ready"
    remove_image(rig.engine, APP)
    assert rig.operator.posted() == "authenticating"
    assert rig.operator.rest() == READY
    assert image_id(rig.engine, APP) == image.image.config
    assert len(rig.loads) == 2


def test_ready_stays_while_the_engine_is_down(unlock_device: UnlockDevice, docker: Engine, packed: Packed) -> None:
    with RecordingProxy(unlock_device.directory / "docker.sock", docker.socket) as wire:
        unlock_device.put(packed.path)
        operator = unlock_device.start(wire.host)
        assert operator.unlock() == READY
    assert operator.posted() == "ready"
