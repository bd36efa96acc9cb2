"""Devices without an archive, where the images in the engine decide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.archive_head import StoredHead
from loader.unlock.remembered import remember
from tests.support.archives import APP, DATABASE, VERSION, Packed, remove_all_images
from tests.support.engines import Engine
from tests.support.images import import_image, remove_image
from tests.support.sites import NO_ENGINE
from tests.support.unlocking import READY, Rig, Status, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

UNREADABLE = (b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000)
APP_NAME = APP.removesuffix(f":{VERSION}")


def assert_problem(response: tuple[int, dict[str, Any]], status: int, code: str) -> None:
    assert (response[0], response[1]["status"], response[1]["code"]) == (status, status, code)


@pytest.fixture
def unlocked(rig: Rig, packed: Packed) -> Rig:
    """A device that was unlocked once, and whose archive was deleted afterwards."""
    assert rig.unlock(packed.path) == READY
    rig.device.archive.unlink()
    rig.device.api.forget_requests()
    return rig


def test_without_archive_and_images_the_archive_is_not_found(unlock_device: UnlockDevice, docker: Engine) -> None:
    operator = unlock_device.start(docker.host)
    assert_problem(operator.post(), 404, "ARCHIVE_NOT_FOUND")
    assert operator.status() == Status("idle", None, None)
    assert unlock_device.api.requests() == []


def test_an_archive_that_appears_later_is_unlocked(rig: Rig, packed: Packed) -> None:
    assert_problem(rig.operator.post(), 404, "ARCHIVE_NOT_FOUND")
    assert rig.unlock(packed.path) == READY


def test_the_images_of_the_last_unlock_make_a_device_ready(unlocked: Rig, tmp_path: Path) -> None:
    """As after a reboot: a new loader, on a copy of the disk."""
    copy = shutil.copytree(unlocked.device.directory, tmp_path / "copy")
    paths = {"IMAGES_PATH": str(copy / "images.enc"), "MODEL_CACHE_DIR": str(copy / "models")}
    operator = unlocked.device.start(unlocked.wire.host, **paths)
    assert operator.posted("a wrong password") == "ready"
    assert operator.status() == READY
    assert unlocked.device.api.requests() == []


def test_all_images_of_the_last_unlock_must_be_present(unlocked: Rig) -> None:
    remove_image(unlocked.engine, DATABASE)
    assert_problem(unlocked.operator.post(), 404, "ARCHIVE_NOT_FOUND")


def test_another_image_under_the_remembered_tag_does_not_count(unlocked: Rig) -> None:
    remove_image(unlocked.engine, DATABASE)
    import_image(unlocked.engine, DATABASE, seed=77)
    assert_problem(unlocked.operator.post(), 404, "ARCHIVE_NOT_FOUND")


@pytest.mark.parametrize("expected", [APP_NAME, f" {APP} , {DATABASE} "], ids=["no tag", "tags"])
def test_expected_images_make_a_device_ready(unlock_device: UnlockDevice, docker: Engine, expected: str) -> None:
    import_image(docker, DATABASE)
    import_image(docker, f"{APP_NAME}:latest")
    operator = unlock_device.start(docker.host, EXPECTED_IMAGES=expected)
    assert_problem(operator.post(), 404, "ARCHIVE_NOT_FOUND")
    import_image(docker, APP)
    assert operator.posted("a wrong password") == "ready"
    assert unlock_device.api.requests() == []


def test_the_remembered_manifest_takes_precedence_over_expected_images(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed
) -> None:
    remember(unlock_device.remembered.parent, StoredHead.of(packed.head))
    import_image(docker, APP)
    import_image(docker, DATABASE)
    assert_problem(unlock_device.start(docker.host, EXPECTED_IMAGES=APP).post(), 404, "ARCHIVE_NOT_FOUND")


def test_an_unusable_remembered_manifest_is_replaced_by_expected_images(
    unlock_device: UnlockDevice, docker: Engine
) -> None:
    operator = unlock_device.start(docker.host, EXPECTED_IMAGES=APP)
    for number, content in enumerate(UNREADABLE, start=1):
        unlock_device.remembered.write_bytes(content)
        remove_all_images(docker)
        assert_problem(operator.post(), 404, "ARCHIVE_NOT_FOUND")
        import_image(docker, APP)
        assert operator.posted() == "ready"
        warnings = [message for message in operator.log_messages("WARNING") if str(unlock_device.remembered) in message]
        assert len(warnings) == 2 * number, content


def test_without_archive_and_engine_the_engine_is_unavailable(unlock_device: UnlockDevice) -> None:
    operator = unlock_device.start(NO_ENGINE, EXPECTED_IMAGES=APP)
    assert_problem(operator.post(), 503, "ENGINE_UNAVAILABLE")
    assert operator.status() == Status("idle", None, None)


def test_ready_without_archive_is_checked_with_the_engine_again(unlocked: Rig) -> None:
    assert unlocked.operator.posted() == "ready"
    remove_all_images(unlocked.engine)
    assert_problem(unlocked.operator.post(), 404, "ARCHIVE_NOT_FOUND")
