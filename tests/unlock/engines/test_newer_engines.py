"""Unlocks on a stand-in for engines that report a failed unpack as success: they never end in `ready`."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from loader.unlock.previous import pin_of
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.newer_engine import NewerEngine
from tests.unlock.engines.newer_store import UnpackFault
from tests.unlock.engines.releases import NAMES, NEW, OLD, seal_new, seal_old

pytest_plugins = ("tests.support.unlock_fixtures",)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[NewerEngine]:
    with NewerEngine(tmp_path / "newer.sock") as engine:
        yield engine


@pytest.fixture
def operator(engine: NewerEngine, unlock_device: UnlockDevice, tmp_path: Path) -> Operator:
    """A device that has unlocked the old release, and has the new one in place."""
    operator = unlock_device.start(engine.host, UNLOCK_MODE="stream")
    unlock_device.put(seal_old(tmp_path / "old.enc"))
    assert operator.unlock() == READY
    unlock_device.put(seal_new(tmp_path / "new.enc"))
    return operator


def said(reason: str) -> UnpackFault:
    """Return a fault that is told as plain text."""
    return UnpackFault('Error unpacking image azaion/app:1: apply layer error for "azaion/app:1": ' + reason)


# With the codes that are right.
FAULTS = [
    (said("write /var/lib/containerd/9/fs/large.bin: no space left on device\n"), {"DISK_SPACE"}),
    (said("failed to mount /var/lib/docker/tmp/containerd-mount: invalid argument\n"), {"ENGINE_REJECTED"}),
    (UnpackFault(), {"ENGINE_REJECTED"}),
    (UnpackFault(available=False), {"ENGINE_REJECTED"}),
]


def test_an_image_that_was_not_unpacked_ends_the_unlock(engine: NewerEngine, operator: Operator) -> None:
    before = deepcopy(engine.store)
    assert before.names == {image.reference: image.image.manifest for image in OLD}
    for broken, (fault, codes) in product(NAMES, FAULTS):
        engine.faults = {broken: fault}
        status = operator.unlock()
        assert status.code in codes, (broken, fault)
        assert_failed(status, str(status.code))
        assert engine.store == before, (broken, fault)
    engine.faults.clear()
    assert operator.unlock() == READY
    kept = {pin_of(image.reference): image.image.manifest for image in OLD}
    assert engine.store.names == {**kept, **{image.reference: image.image.manifest for image in NEW}}


def test_a_broken_image_that_is_there_already_is_loaded_again(engine: NewerEngine, operator: Operator) -> None:
    """Another program has loaded the new release, and the engine could not unpack it."""
    assert operator.unlock() == READY
    engine.store.images = {id_: replace(image, unpacked=0) for id_, image in engine.store.images.items()}
    assert operator.get("/unlock/plan")["done"] is False
    assert operator.unlock() == READY
    assert all(engine.store.images[image.image.manifest].unpacked for image in NEW)


def test_the_proof_of_an_image_leaves_no_container(engine: NewerEngine, operator: Operator) -> None:
    assert operator.unlock() == READY
    assert engine.store.containers == set()
    assert engine.store.images.keys() == {image.image.manifest for image in (*OLD, *NEW)}
