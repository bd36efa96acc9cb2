"""What each mode delivers, when, and in which pieces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loader.binary_split import Archive
from loader.settings import Settings
from loader.unlock.delivery import Delivery, StreamDelivery, TarDelivery, image_delivery
from tests.support.handmade_image import FRAGMENT
from tests.unlock.delivery.deliveries import (
    MIB,
    Make,
    assert_is,
    by_file,
    damage,
    each_codec,
    layouts,
    nothing,
    taken,
    top_layer,
    whole,
)


@each_codec
def test_authenticated_layouts_are_delivered_whole_and_counted(archive: Archive, make: Make, tmp_path: Path) -> None:
    delivery = make(archive, nothing)
    reached: list[int] = []
    delivery.prepare(FRAGMENT, reached.append)
    assert reached == sorted(reached)
    assert reached[-1] == delivery.preparation
    for layout in layouts(archive):
        assert_is(taken(delivery, layout), layout)
    delivery.close()
    assert list(tmp_path.iterdir()) == [archive.path]


def test_the_preparation_counts_what_is_read_and_in_mode_tar_what_is_written(archive: Archive, tar: Path) -> None:
    stored = sum(blob.stored_size for blob in archive.head.blobs)
    assert StreamDelivery(archive, layouts(archive), nothing).preparation == stored
    assert by_file(archive, tar).preparation == sum(layout.size for layout in layouts(archive))


def test_blobs_that_are_not_sent_are_not_read(archive: Archive) -> None:
    delivery = StreamDelivery(archive, layouts(archive)[1:], nothing)
    damage(archive, top_layer(archive), 1)
    delivery.prepare(FRAGMENT, nothing)
    assert delivery.preparation < MIB
    assert_is(taken(delivery, layouts(archive)[1]), layouts(archive)[1])


def test_a_piece_has_at_most_one_mib(archive: Archive, make: Make) -> None:
    delivery = make(archive, nothing)
    delivery.prepare(FRAGMENT, nothing)
    assert max(len(piece) for layout in layouts(archive) for piece in delivery.pieces(layout)) <= MIB
    delivery.close()


def test_each_layout_can_be_taken_again_and_an_unplanned_one_too(archive: Archive, make: Make) -> None:
    """The engine may refuse a layout; the loader then sends the same image once more with all of its layers."""
    delivery = make(archive, nothing)
    delivery.prepare(FRAGMENT, nothing)
    planned = layouts(archive)
    next(delivery.pieces(planned[0]))  # the engine refused it after the first piece
    for layout in (planned[0], planned[1], planned[1], whole(archive, 1), whole(archive, 1)):
        assert_is(taken(delivery, layout), layout)
    delivery.close()


def test_nothing_is_delivered_before_it_is_authenticated(archive: Archive, make: Make) -> None:
    delivery = make(archive, nothing)
    for layout in (*layouts(archive), whole(archive, 1)):
        with pytest.raises(RuntimeError):
            next(delivery.pieces(layout))
    delivery.close()


def test_nothing_is_delivered_after_the_end(archive: Archive, make: Make, tar: Path) -> None:
    delivery = make(archive, nothing)
    delivery.prepare(FRAGMENT, nothing)
    delivery.close()
    with pytest.raises((RuntimeError, ValueError)):
        next(delivery.pieces(layouts(archive)[0]))
    assert not tar.exists()


def test_a_closed_stream_keeps_no_key(archive: Archive) -> None:
    delivery = StreamDelivery(archive, layouts(archive), nothing)
    delivery.prepare(FRAGMENT, nothing)
    assert delivery._contents is not None
    delivery.close()
    assert delivery._contents is None
    assert FRAGMENT not in vars(delivery).values()


@pytest.mark.parametrize(("mode", "kind"), [("tar", TarDelivery), ("stream", StreamDelivery)])
def test_the_mode_chooses_the_delivery_and_an_error_closes_it(
    archive: Archive, tar: Path, mode: str, kind: type[Delivery]
) -> None:
    settings = dataclasses.replace(Settings.from_env({"UNLOCK_MODE": mode}), images_path=archive.path)

    def fail_in_the_middle() -> None:
        with image_delivery(settings, archive, layouts(archive), nothing) as delivery:
            assert isinstance(delivery, kind)
            delivery.prepare(FRAGMENT, nothing)
            assert tar.exists() is (mode == "tar")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    assert not tar.exists()
