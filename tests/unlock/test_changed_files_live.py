"""An unlock whose tar or archive another process changes while a real engine takes the images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.archives import Packed
from tests.support.images import has_image
from tests.support.unlocking import READY, Rig, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
# Far below ENGINE_TIMEOUT, for which an engine waits that is not told that the rest will not come.
AT_ONCE_SECONDS = 10.0


def cut(path: Path) -> None:
    os.truncate(path, MIB)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def spoiled_in_the_middle(rig: Rig, packed: Packed, spoil: Callable[[Path], None], path: Path) -> float:
    """Unlock, and spoil `path` once the engine has 1 MiB. Return the seconds from then to the end of the unlock."""
    rig.wire.hold_upload(after=MIB)
    rig.device.put(packed.path)
    rig.operator.post()
    rig.wire.wait_until_held()
    spoil(path)
    started = time.monotonic()
    rig.wire.release()
    rig.operator.rest()
    return time.monotonic() - started


def assert_nothing_is_left(rig: Rig, packed: Packed) -> None:
    assert not rig.device.tar.exists()
    assert not rig.device.remembered.exists()
    assert not any(has_image(rig.engine, image.reference) for image in packed.images)


@pytest.mark.parametrize("spoil", [cut, overwrite])
def test_a_changed_tar_ends_the_unlock_at_once(rig: Rig, packed: Packed, spoil: Callable[[Path], None]) -> None:
    assert spoiled_in_the_middle(rig, packed, spoil, rig.device.tar) < AT_ONCE_SECONDS
    assert_failed(rig.operator.status(), "STORAGE_ERROR")
    assert str(rig.device.tar) in str(rig.operator.status().error)
    assert_nothing_is_left(rig, packed)


def test_another_tar_under_the_same_name_is_not_sent(rig: Rig, packed: Packed) -> None:
    spoiled_in_the_middle(rig, packed, replace, rig.device.tar)
    assert rig.operator.status() == READY
    assert not rig.device.tar.exists()


@pytest.mark.parametrize("spoil", [cut, overwrite])
def test_a_changed_archive_ends_an_unlock_in_mode_stream_at_once(
    unlock_device: UnlockDevice, rig: Rig, packed: Packed, spoil: Callable[[Path], None]
) -> None:
    streaming = Rig(unlock_device, rig.engine, rig.wire, UNLOCK_MODE="stream")
    assert spoiled_in_the_middle(streaming, packed, spoil, unlock_device.archive) < AT_ONCE_SECONDS
    assert_failed(streaming.operator.status(), "ARCHIVE_CORRUPT")
    assert_nothing_is_left(streaming, packed)
