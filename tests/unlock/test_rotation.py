"""Another key fragment at the API: devices with the old archive are cut off when it is retired, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.crypto.archive_seals import key_check
from loader.packing.rewrap import rewrap
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.packing.packs import unwatched
from tests.support.archives import Packed
from tests.support.handmade_image import FRAGMENT
from tests.support.unlocking import READY, Rig
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

NEW = b"the next key fragment of the fleet"


@pytest.fixture
def fragments(rig: Rig) -> Iterator[Fragments]:
    """The fragments of the API; FRAGMENT alone before and after the test."""
    made = Fragments(DataDirectory.open(rig.device.api.data_dir))
    yield made
    made.set(FRAGMENT, force=True)


def test_a_rotation_cuts_off_the_old_archive_only_when_its_fragment_is_retired(
    rig: Rig, packed: Packed, fragments: Fragments, tmp_path: Path
) -> None:
    new = rewrap(packed.path, FRAGMENT, NEW, tmp_path / "new.enc", unwatched)
    rig.device.put(new)
    assert_failed(rig.operator.unlock(), "KEY_MISMATCH")

    fragments.add(NEW)
    assert rig.unlock(packed.path) == READY
    rig.clean()
    assert rig.unlock(new) == READY

    rig.clean()
    fragments.retire(key_check(FRAGMENT))
    rig.device.put(packed.path)
    assert_failed(rig.operator.unlock(), "KEY_MISMATCH")
    assert rig.loads == []
    assert rig.unlock(new) == READY


def test_an_api_without_the_fragment_says_that_it_was_retired(rig: Rig, packed: Packed, fragments: Fragments) -> None:
    fragments.retire(key_check(FRAGMENT))
    rig.device.put(packed.path)
    status = rig.operator.unlock()
    assert_failed(status, "KEY_MISMATCH")
    assert "retired at the resource API, or never added" in str(status.error)
