"""Updates that fail because of the archive: the engine has what it had, and the next unlock succeeds."""

from __future__ import annotations

import os

import pytest

from tests.support.inventory import Inventory
from tests.support.processes import poll
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.releases import (
    IN_SECOND,
    MIB,
    NEW,
    OLD,
    OTHERS,
    seal_with_wrong_layer,
    seal_with_wrong_settings,
)
from tests.unlock.engines.scene import Scene

pytest_plugins = ("tests.support.unlock_fixtures",)

LOAD_SECONDS = 30.0


def flip_middle(data: bytearray) -> None:
    data[len(data) // 2] ^= 1


def test_a_damaged_archive_changes_nothing(scene: Scene) -> None:
    scene.device.change(flip_middle)
    assert_failed(scene.operator.unlock(), "ARCHIVE_CORRUPT")
    scene.assert_as_before()
    scene.finish()


def test_damage_during_the_second_load_changes_nothing(scene: Scene) -> None:
    """In mode `stream` the archive is damaged, in mode `tar` the decrypted file."""
    scene.hold(IN_SECOND)
    damaged = scene.device.archive if scene.mode == "stream" else scene.device.tar
    with damaged.open("r+b") as file:
        file.seek(-MIB // 2, os.SEEK_END)  # in the large layer, of which the engine has only got the first part
        file.write(b"damaged")
    scene.wire.release()
    assert scene.operator.rest().state == "error"
    scene.assert_as_before()
    scene.finish()


def test_a_layer_that_the_engine_refuses_changes_nothing(scene: Scene) -> None:
    status = scene.unlock(seal_with_wrong_layer(scene.scratch / "wrong.enc"))
    assert_failed(status, "ENGINE_REJECTED")
    scene.assert_as_before()
    scene.finish()


def test_a_failed_update_does_not_disturb_a_container_of_the_old_image(scene: Scene) -> None:
    scene.add_container(OLD[0], runs=True)
    status = scene.unlock(seal_with_wrong_layer(scene.scratch / "wrong.enc"))
    assert_failed(status, "ENGINE_REJECTED")
    scene.assert_as_before()


def test_another_configuration_than_that_of_the_archive_changes_nothing(scene: Scene) -> None:
    """Some engines take it as another image, some refuse it, and the loader may find it before."""
    status = scene.unlock(seal_with_wrong_settings(scene.scratch / "wrong.enc"))
    assert (status.state, status.code in {"IMAGE_MISMATCH", "ENGINE_REJECTED", "ARCHIVE_CORRUPT"}) == ("error", True)
    scene.assert_as_before()
    scene.finish()


def test_an_image_whose_name_another_client_moves_after_its_load_is_sent_once_more(scene: Scene) -> None:
    """The proof has failed, and layers were left out: so the whole image follows, and has its name in the end."""
    scene.wire.hold_response()
    scene.operator.post()
    new = NEW[0].image
    poll(lambda: Inventory.of(scene.engine).names[new.reference] in new.ids, LOAD_SECONDS, "the first image is loaded")
    scene.engine.client.api.tag(OTHERS[1].reference, *new.reference.split(":"))
    scene.wire.release()
    assert scene.operator.rest() == READY
    scene.assert_updated()


def test_a_change_is_noticed(scene: Scene) -> None:
    scene.finish()
    with pytest.raises(AssertionError):
        scene.assert_as_before()
