"""Containers of proofs that a kill has left: they keep no image that has to go."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tests.unlock.rollback.device import Device
from tests.unlock.rollback.engine_of_names import REFERENCES, Killed, engine_with, image_id


@pytest.mark.parametrize("former", [None, image_id(1)])
def test_a_kill_during_the_proof_of_a_new_image_keeps_nothing_of_it(tmp_path: Path, former: str | None) -> None:
    device = Device(engine_with([former, None, None]), tmp_path)
    before = device.engine.inventory()
    with suppress(Killed), device.guarded():
        device.engine.put(REFERENCES[0], image_id(8))
        device.engine.proven = frozenset({image_id(8)})
        device.engine.calls_left = 0
        raise Killed
    device.start()
    assert device.engine.inventory() == before


def test_an_old_image_goes_although_a_kill_without_a_journal_has_left_its_proof(tmp_path: Path) -> None:
    """A proof of images that are there already needs no journal."""
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    device.engine.proven = frozenset({image_id(1)})
    with device.guarded():
        device.engine.put(REFERENCES[0], image_id(8))
    device.wait()
    assert image_id(1) not in device.engine.images
