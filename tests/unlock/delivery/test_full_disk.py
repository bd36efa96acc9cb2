"""A disk that is full when the tar of mode `tar` is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.binary_split import Archive
from loader.errors import DiskSpace
from loader.files import free_bytes
from loader.unlock.delivery import TarDelivery
from tests.support.handmade_image import FRAGMENT
from tests.support.small_disk import fill, small_disk
from tests.unlock.delivery.deliveries import (
    MIB,
    assert_is,
    by_file,
    layouts,
    nothing,
    taken,
    whole,
    without_lower_layer,
)

PAGE = 4096


def test_a_disk_that_is_full_at_any_write_is_reported_with_needed_and_free_bytes(
    archive: Archive, tmp_path: Path
) -> None:
    """The last bytes of a layout are still in the buffer of the file: then the flush finds the disk full."""
    first, second = (layout.size for layout in layouts(archive))
    with small_disk(tmp_path / "disk", first + second + MIB) as disk:
        early = range(0, first + second, MIB // 2)
        at_the_end_of_a_layout = range(first - 5 * PAGE, first + second - PAGE, PAGE)
        for leave in (*early, *at_the_end_of_a_layout):
            filler = fill(disk, leave=leave // PAGE * PAGE)
            delivery = by_file(archive, disk / "images.tar")
            needed = f"{disk}/images.tar needs ({first}|{second}) bytes, [0-9]+ bytes are free"
            with pytest.raises(DiskSpace, match=needed):
                delivery.prepare(FRAGMENT, nothing)
            delivery.close()
            assert list(disk.iterdir()) == [filler]
        fill(disk, leave=first + second + PAGE)
        delivery = by_file(archive, disk / "images.tar")
        delivery.prepare(FRAGMENT, nothing)
        delivery.close()


def test_too_little_room_for_a_whole_layout_is_reported_before_the_disk_is_full(
    archive: Archive, tmp_path: Path
) -> None:
    partial, again = without_lower_layer(archive), whole(archive, 0)
    with small_disk(tmp_path / "disk", 6 * MIB) as disk:
        tar = disk / "images.tar"
        delivery = TarDelivery(archive, [partial], tar, nothing)
        delivery.prepare(FRAGMENT, nothing)
        delivery.authenticate([again])
        size = tar.stat().st_size
        filler = fill(disk, leave=0)
        with pytest.raises(DiskSpace, match=f"{tar} needs {again.size} bytes, [0-9]+ bytes are free"):
            taken(delivery, again)
        assert tar.stat().st_size == size
        assert free_bytes(disk) > partial.size - 2 * PAGE  # the partial one has made room
        delivery.close()
        assert list(disk.iterdir()) == [filler]


def test_room_for_the_rest_of_a_whole_layout_is_enough(archive: Archive, tmp_path: Path) -> None:
    partial, again = without_lower_layer(archive), whole(archive, 0)
    with small_disk(tmp_path / "disk", 6 * MIB) as disk:
        delivery = TarDelivery(archive, [partial], disk / "images.tar", nothing)
        delivery.prepare(FRAGMENT, nothing)
        delivery.authenticate([again])
        fill(disk, leave=(again.size - partial.size) // PAGE * PAGE + 4 * PAGE)
        assert_is(taken(delivery, again), again)
        delivery.close()
