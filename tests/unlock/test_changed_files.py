"""Files that another process cuts, writes to or replaces during an unlock: the archive, and the tar of mode `tar`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.errors import ArchiveCorrupt, StorageError
from loader.oci import Layout
from loader.unlock.delivery import Delivery, StreamDelivery, TarDelivery
from loader.unlock.layers import layouts_of
from loader.unlock.tar_file import CHANGED_HINT
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.processes import poll

MIB = 1 << 20
SECONDS = 20.0
IMAGE = HandmadeImage("app:1.4", (HandmadeLayer(os.urandom(MIB), 4),))
CUT_OR_CHANGED = r"images\.tar (cannot be used: it was cut short|was changed by another program)"

Spoil = Callable[[Path], None]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(seal(tmp_path / "images.enc", [IMAGE])) as opened:
        yield opened


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "images.tar"


@pytest.fixture
def layout(archive: Archive) -> Layout:
    (only,) = layouts_of(archive.head, set())
    return only


@pytest.fixture
def by_file(archive: Archive, layout: Layout, tar: Path) -> Iterator[TarDelivery]:
    delivery = TarDelivery(archive, [layout], tar, nothing)
    yield delivery
    delivery.close()
    assert not tar.exists()


@pytest.fixture(params=["tar", "stream"])
def delivery(request: pytest.FixtureRequest, archive: Archive, layout: Layout, tar: Path) -> Iterator[Delivery]:
    """The delivery of each mode in turn."""
    made: Delivery = (
        TarDelivery(archive, [layout], tar, nothing)
        if request.param == "tar"
        else StreamDelivery(archive, [layout], nothing)
    )
    yield made
    made.close()


def nothing(*_: object) -> None:
    """Do nothing, as a checkpoint or as a callback."""


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    """Change one byte in the middle, and wait until the clock of the file system shows it."""
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(path.stat().st_size * 3 // 4)
        byte = file.read(1)

        def write() -> bool:
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
            file.flush()
            return path.stat().st_mtime_ns != before

        poll(write, SECONDS, "the change has a later time")


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


SPOILS_CONTENT = [cut, empty, overwrite]
SPOILS_NAME = [replace, remove]


def sent(delivery: Delivery, layout: Layout, after: int = -1, spoil: Spoil = nothing, path: Path = Path()) -> bytes:
    """Take all pieces; spoil `path` as soon as `after` bytes were taken."""
    got, spoiled = bytearray(), False
    for piece in delivery.pieces(layout):
        got += piece
        if 0 <= after <= len(got) and not spoiled:
            spoiled = True
            spoil(path)
    return bytes(got)


def prepared_and_sent(delivery: Delivery, layout: Layout, reached: Callable[[int], None]) -> bytes:
    delivery.prepare(FRAGMENT, reached)
    return sent(delivery, layout)


def whole(archive: Archive, layout: Layout) -> bytes:
    delivery = StreamDelivery(archive, [layout], nothing)
    delivery.prepare(FRAGMENT, nothing)
    return sent(delivery, layout)


# The tar of mode `tar`.


@pytest.mark.parametrize("spoil", [*SPOILS_CONTENT, extend])
@pytest.mark.parametrize("after", [0, 3000, MIB, 3 * MIB])
def test_a_tar_that_is_changed_while_it_is_sent_ends_the_delivery(
    by_file: TarDelivery, layout: Layout, tar: Path, spoil: Spoil, after: int
) -> None:
    by_file.prepare(FRAGMENT, nothing)
    with pytest.raises(StorageError, match=CUT_OR_CHANGED):
        sent(by_file, layout, after, spoil, tar)


@pytest.mark.parametrize("spoil", [*SPOILS_CONTENT, extend])
def test_a_tar_that_is_changed_before_it_is_sent_ends_the_delivery(
    by_file: TarDelivery, layout: Layout, tar: Path, spoil: Spoil
) -> None:
    by_file.prepare(FRAGMENT, nothing)
    spoil(tar)
    with pytest.raises(StorageError, match=CUT_OR_CHANGED) as raised:
        sent(by_file, layout)
    assert raised.value.hint == CHANGED_HINT


@pytest.mark.parametrize("spoil", [*SPOILS_CONTENT, extend])
def test_a_tar_that_is_changed_while_it_is_written_ends_the_preparation(
    by_file: TarDelivery, layout: Layout, tar: Path, spoil: Spoil
) -> None:
    """A tar that was cut would have a hole of zeros there."""
    spoiled = False

    def reached(done: int) -> None:
        nonlocal spoiled
        if done > 2 * MIB and not spoiled:
            spoiled = True
            spoil(tar)

    with pytest.raises(StorageError, match=CUT_OR_CHANGED):
        by_file.prepare(FRAGMENT, reached)
    with pytest.raises(RuntimeError):
        next(by_file.pieces(layout))


@pytest.mark.parametrize("spoil", SPOILS_NAME)
@pytest.mark.parametrize("after", [0, 3000, 3 * MIB])
def test_another_file_under_the_name_of_the_tar_is_never_sent(
    archive: Archive, by_file: TarDelivery, layout: Layout, tar: Path, spoil: Spoil, after: int
) -> None:
    by_file.prepare(FRAGMENT, nothing)
    assert sent(by_file, layout, after, spoil, tar) == whole(archive, layout)


@pytest.mark.parametrize("spoil", SPOILS_NAME)
def test_another_file_under_the_name_of_the_tar_before_it_is_sent_is_never_sent(
    archive: Archive, by_file: TarDelivery, layout: Layout, tar: Path, spoil: Spoil
) -> None:
    by_file.prepare(FRAGMENT, nothing)
    spoil(tar)
    assert sent(by_file, layout) == whole(archive, layout)


def unnoticed(tar: Path, change: Callable[[bytearray], None]) -> None:
    """Change the tar as a process would that also sets back its times."""
    before = tar.stat()
    data = bytearray(tar.read_bytes())
    change(data)
    tar.write_bytes(data)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_no_byte_beside_the_layers_is_taken_from_the_tar(
    archive: Archive, by_file: TarDelivery, layout: Layout, tar: Path
) -> None:
    """Otherwise a name for any image could be written into manifest.json. Engines compare layers with their digests."""
    by_file.prepare(FRAGMENT, nothing)
    good = whole(archive, layout)
    (layer,) = layout.layers
    start = good.index(next(IMAGE.layers[0].content()))
    content = slice(start, start + layout.head.blob[layer].size)
    descriptions = [IMAGE.manifest, IMAGE.config]

    def change(data: bytearray) -> None:
        kept = {(begin := good.index(each)): good[begin : begin + len(each)] for each in descriptions}
        kept[content.start] = good[content]
        data[:] = b"x" * len(data)
        for begin, part in kept.items():
            data[begin : begin + len(part)] = part

    unnoticed(tar, change)
    assert sent(by_file, layout) == good


@pytest.mark.parametrize("description", [IMAGE.manifest, IMAGE.config], ids=["manifest", "configuration"])
def test_a_description_that_was_changed_without_a_trace_is_not_sent(
    archive: Archive, by_file: TarDelivery, layout: Layout, tar: Path, description: bytes
) -> None:
    by_file.prepare(FRAGMENT, nothing)
    begin = whole(archive, layout).index(description)

    def change(data: bytearray) -> None:
        data[begin + 1] ^= 1

    unnoticed(tar, change)
    with pytest.raises(StorageError, match=CUT_OR_CHANGED):
        sent(by_file, layout)


# The archive, in both modes.


@pytest.mark.parametrize("spoil", SPOILS_CONTENT)
@pytest.mark.parametrize("early", [True, False])
def test_an_archive_that_is_changed_before_the_end_of_the_first_pass_is_not_sent(
    archive: Archive, delivery: Delivery, layout: Layout, spoil: Spoil, early: bool
) -> None:
    """Mode `stream` starts its first pass at once and may have ended it by then; the second pass notices the change."""
    spoiled = early

    def reached(done: int) -> None:
        nonlocal spoiled
        # The bytes that `overwrite` changes are not read yet then.
        if done and not spoiled:
            spoiled = True
            spoil(archive.path)

    if early:
        spoil(archive.path)
    with pytest.raises(ArchiveCorrupt):
        prepared_and_sent(delivery, layout, reached)
    if isinstance(delivery, TarDelivery):
        with pytest.raises(RuntimeError):
            next(delivery.pieces(layout))


@pytest.mark.parametrize("spoil", SPOILS_CONTENT)
@pytest.mark.parametrize("after", [-1, 0, 3000, MIB])
def test_only_what_the_first_pass_has_authenticated_is_sent(
    archive: Archive, delivery: Delivery, layout: Layout, spoil: Spoil, after: int
) -> None:
    """Mode `tar` needs the archive no more by then."""
    good = whole(archive, layout)
    delivery.prepare(FRAGMENT, nothing)
    if after < 0:
        spoil(archive.path)
    if isinstance(delivery, TarDelivery):
        assert sent(delivery, layout, after, spoil, archive.path) == good
        return
    with pytest.raises(ArchiveCorrupt):
        sent(delivery, layout, after, spoil, archive.path)


@pytest.mark.parametrize("spoil", SPOILS_NAME)
@pytest.mark.parametrize("when", ["opened", "prepared", "sending"])
def test_another_archive_under_the_name_changes_nothing(
    archive: Archive, delivery: Delivery, layout: Layout, spoil: Spoil, when: str
) -> None:
    good = whole(archive, layout)
    if when == "opened":
        spoil(archive.path)
    delivery.prepare(FRAGMENT, nothing)
    if when == "prepared":
        spoil(archive.path)
    after = MIB if when == "sending" else -1
    assert sent(delivery, layout, after, spoil, archive.path) == good
