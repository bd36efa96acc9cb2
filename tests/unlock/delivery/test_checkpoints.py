"""Checkpoints that end a preparation or a delivery between two pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.binary_split import Archive
from loader.errors import Interrupted
from tests.support.handmade_image import FRAGMENT
from tests.unlock.delivery.deliveries import MIB, Make, by_file, layouts, nothing


def third_time() -> Callable[[], None]:
    calls = itertools.count(1)

    def checkpoint() -> None:
        if next(calls) >= 3:
            raise Interrupted("enough")

    return checkpoint


def test_a_checkpoint_ends_the_preparation_between_two_pieces(archive: Archive, make: Make, tar: Path) -> None:
    delivery = make(archive, third_time())
    with pytest.raises(Interrupted):
        delivery.prepare(FRAGMENT, nothing)
    delivery.close()
    assert not tar.exists()


def test_a_checkpoint_ends_the_writing_of_the_tar(archive: Archive, tar: Path) -> None:
    def checkpoint() -> None:
        if tar.exists() and tar.stat().st_size > MIB:
            raise Interrupted("enough")

    delivery = by_file(archive, tar, checkpoint)
    with pytest.raises(Interrupted):
        delivery.prepare(FRAGMENT, nothing)
    assert tar.exists()
    delivery.close()
    assert not tar.exists()


def test_a_checkpoint_ends_the_delivery_between_two_pieces(archive: Archive, make: Make) -> None:
    stopped = False

    def checkpoint() -> None:
        if stopped:
            raise Interrupted("enough")

    delivery = make(archive, checkpoint)
    delivery.prepare(FRAGMENT, nothing)
    pieces = delivery.pieces(layouts(archive)[0])
    next(pieces)
    stopped = True
    with pytest.raises(Interrupted):
        list(pieces)
    delivery.close()
