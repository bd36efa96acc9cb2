"""The file of mode `tar`: what it holds, who may read it, and what happens to it on the disk."""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path

import pytest

from loader.binary_split import Archive
from loader.errors import StorageError
from loader.settings import Settings
from loader.unlock.delivery import TarDelivery, tar_path
from loader.unlock.tar_file import remove_tar
from tests.support.handmade_image import FRAGMENT
from tests.unlock.delivery.deliveries import (
    MIB,
    assert_is,
    by_file,
    layouts,
    nothing,
    take_into,
    taken,
    whole,
    without_lower_layer,
)

BLOCK_SIZE = 1 << 16  # the largest block of a file system


def allocated(file: Path) -> int:
    """Return the bytes that a file takes on the disk."""
    return file.stat().st_blocks * 512


def test_the_tar_holds_one_whole_layout_after_another(archive: Archive, tar: Path) -> None:
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    data, begin = tar.read_bytes(), 0
    for layout in layouts(archive):
        assert_is(data[begin : begin + layout.size], layout)
        begin += layout.size
    assert len(data) == begin
    delivery.close()


def test_a_layout_that_is_taken_again_is_appended_to_the_tar(archive: Archive, tar: Path) -> None:
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    size = tar.stat().st_size
    taken(delivery, layouts(archive)[1])
    assert tar.stat().st_size == size
    again = whole(archive, 1)
    pieces = delivery.pieces(again)
    next(pieces)
    assert_is(tar.read_bytes()[size:], again)
    delivery.close()
    assert not tar.exists()


def test_the_tar_is_for_its_owner_only(archive: Archive, tar: Path) -> None:
    delivery = by_file(archive, tar)
    old = os.umask(0)
    try:
        delivery.prepare(FRAGMENT, nothing)
    finally:
        os.umask(old)
    assert stat.S_IMODE(tar.stat().st_mode) == 0o600
    delivery.close()


@pytest.mark.parametrize("kind", ["dangling link", "link", "file"])
def test_what_another_user_put_in_the_place_of_the_tar_is_not_used(
    archive: Archive, tar: Path, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if kind != "dangling link":
        elsewhere.write_bytes(b"")
    delivery = by_file(archive, tar)
    # This comes after the delivery has removed the leftover.
    tar.hardlink_to(elsewhere) if kind == "file" else tar.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="File exists"):
        delivery.prepare(FRAGMENT, nothing)
    assert not elsewhere.exists() or elsewhere.read_bytes() == b""


def test_a_leftover_tar_is_replaced(archive: Archive, tar: Path) -> None:
    tar.write_bytes(b"of a run that was killed")
    delivery = by_file(archive, tar)
    assert not tar.exists()
    delivery.prepare(FRAGMENT, nothing)
    assert tar.stat().st_size == sum(layout.size for layout in layouts(archive))
    delivery.close()


def test_delivered_pieces_free_their_room_on_the_disk(archive: Archive, tar: Path) -> None:
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    left = tar.stat().st_size
    assert allocated(tar) >= left
    for layout in layouts(archive):
        sent = 0
        # The room of a MiB is freed when the next piece is taken.
        for piece in delivery.pieces(layout):
            assert allocated(tar) <= left - max(0, sent - MIB) + 2 * BLOCK_SIZE
            sent += len(piece)
        left -= layout.size
    # The blocks at the ends of a layout belong to two pieces, so that they stay.
    assert allocated(tar) <= 2 * BLOCK_SIZE
    delivery.close()


@pytest.mark.parametrize("count", [0, 1, 6, None], ids=["not sent", "refused at once", "refused later", "all sent"])
def test_a_layout_takes_the_room_of_the_one_that_it_replaces(archive: Archive, tar: Path, count: int | None) -> None:
    partial = without_lower_layer(archive)
    delivery = TarDelivery(archive, [partial, layouts(archive)[1]], tar, nothing)
    delivery.prepare(FRAGMENT, nothing)
    refused = delivery.pieces(partial) if count != 0 else iter(())
    list(islice(refused, count))
    delivery.authenticate([whole(archive, 0)])
    again = delivery.pieces(whole(archive, 0))
    first = bytes(next(again))
    assert allocated(tar) <= whole(archive, 0).size + layouts(archive)[1].size + 2 * BLOCK_SIZE
    assert_is(first + b"".join(map(bytes, again)), whole(archive, 0))
    assert_is(taken(delivery, layouts(archive)[1]), layouts(archive)[1])
    delivery.close()


def test_a_tar_that_is_replaced_while_it_is_sent_changes_nothing(archive: Archive, tar: Path, tmp_path: Path) -> None:
    """What was authenticated is sent from the file that is open, whatever its name has become."""
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    first, second = layouts(archive)
    pieces = delivery.pieces(first)
    data = bytes(next(pieces))
    (tmp_path / "other").write_bytes(bytes(tar.stat().st_size))
    (tmp_path / "other").replace(tar)
    assert_is(data + b"".join(map(bytes, pieces)), first)
    tar.unlink()
    assert_is(taken(delivery, second), second)
    delivery.close()


@pytest.mark.parametrize("left", [0, MIB, 2 * MIB + 5])
def test_a_tar_that_is_cut_while_it_is_sent_ends_the_delivery(archive: Archive, tar: Path, left: int) -> None:
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    got = bytearray()
    with pytest.raises(StorageError, match=r"images\.tar (cannot be used: it was cut|was changed)"):
        take_into(got, delivery, layouts(archive)[0], lambda: os.truncate(tar, left))
    assert len(got) < layouts(archive)[0].size
    delivery.close()
    assert not tar.exists()


def test_the_tar_lies_beside_the_archive() -> None:
    assert tar_path(Settings.from_env({})) == Path("/opt/azaion/images.tar")
    assert tar_path(Settings.from_env({"IMAGES_PATH": "/x/archive"})) == Path("/x/archive.tar")


def test_a_tar_that_cannot_be_removed_causes_a_warning(tar: Path, caplog: pytest.LogCaptureFixture) -> None:
    remove_tar(tar)
    assert caplog.messages == []
    tar.mkdir()
    remove_tar(tar)
    assert [str(tar) in message for message in caplog.messages] == [True]
