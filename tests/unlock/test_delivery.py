"""The delivery of the tar from an archive to the engine, through a file or directly."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.crypto.archive import ManifestImage
from loader.errors import ArchiveCorrupt, DiskSpace, Interrupted, StorageError
from loader.settings import Settings
from loader.unlock.delivery import TarByFile, TarByStream, TarDelivery, remove_tar, tar_delivery, tar_path
from tests.support.archives import FRAGMENT, seal
from tests.support.small_disk import fill, small_disk

MIB = 1 << 20
SIZE = 5 * MIB + 7
BLOCK_SIZE = 1 << 16  # the largest block of a file system
TAR = os.urandom(SIZE)
DIGEST = "sha256:" + "1" * 64
IMAGES = (ManifestImage("app:1.4", DIGEST, (DIGEST,), "2026-01-02T03:04:05Z"),)

Make = Callable[[Archive, Callable[[], None]], TarDelivery]


def nothing(*_: object) -> None:
    """Do nothing, as a checkpoint or as a callback."""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(seal(tmp_path / "images.enc", IMAGES, [TAR], SIZE)) as opened:
        yield opened


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "images.tar"


@pytest.fixture(params=["tar", "stream"])
def make(request: pytest.FixtureRequest, tar: Path) -> Make:
    """Make the delivery of each mode in turn."""
    if request.param == "stream":
        return TarByStream
    return lambda archive, checkpoint: TarByFile(archive, tar, checkpoint)


def damage(archive: Archive, segment: int) -> None:
    """Change one bit of a segment while the archive is open."""
    with archive.path.open("r+b") as file:
        file.seek(len(archive.header.raw) + segment * MIB + 60)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x80]))


def allocated(file: Path) -> int:
    """Return the bytes that a file takes on the disk."""
    return file.stat().st_blocks * 512


def third_time() -> Callable[[], None]:
    calls = iter(range(3))

    def checkpoint() -> None:
        if next(calls) == 2:
            raise Interrupted("enough")

    return checkpoint


def test_an_authenticated_tar_is_delivered_whole_and_counted(archive: Archive, make: Make, tmp_path: Path) -> None:
    delivery = make(archive, nothing)
    reached: list[int] = []
    delivery.authenticate(FRAGMENT, reached.append)
    assert reached == sorted(set(reached))
    assert reached[-1] == delivery.size == SIZE
    assert b"".join(bytes(piece) for piece in delivery.pieces()) == TAR
    delivery.close()
    assert list(tmp_path.iterdir()) == [archive.path]


def test_a_piece_has_at_most_one_mib(archive: Archive, make: Make) -> None:
    delivery = make(archive, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    assert max(map(len, delivery.pieces())) <= MIB


@pytest.mark.parametrize("segment", range(6))
def test_a_damaged_segment_ends_the_authentication(archive: Archive, make: Make, tar: Path, segment: int) -> None:
    damage(archive, segment)
    delivery = make(archive, nothing)
    reached = [0]
    with pytest.raises(ArchiveCorrupt, match=f"segment {segment} does not"):
        delivery.authenticate(FRAGMENT, reached.append)
    before = segment * (MIB - 16) - 40 if segment else 0
    assert reached[-1] == before
    if isinstance(delivery, TarByFile):
        assert tar.read_bytes() == TAR[:before]
    delivery.close()
    assert not tar.exists()


def test_a_fragment_that_only_the_key_check_accepts_authenticates_nothing(archive: Archive, make: Make) -> None:
    """The key check only gives an early error; the authentication of the segments protects."""
    delivery = make(archive, nothing)
    reached: list[int] = []
    with pytest.raises(ArchiveCorrupt):
        delivery.authenticate(b"x" * 32, reached.append)
    assert reached == []
    delivery.close()


def test_a_checkpoint_ends_the_authentication_between_two_segments(archive: Archive, make: Make, tar: Path) -> None:
    delivery = make(archive, third_time())
    reached: list[int] = []
    with pytest.raises(Interrupted):
        delivery.authenticate(FRAGMENT, reached.append)
    assert len(reached) == 2
    delivery.close()
    assert not tar.exists()


def test_a_checkpoint_ends_the_delivery_between_two_pieces(archive: Archive, make: Make) -> None:
    stopped = False

    def checkpoint() -> None:
        if stopped:
            raise Interrupted("enough")

    delivery = make(archive, checkpoint)
    delivery.authenticate(FRAGMENT, nothing)
    pieces = delivery.pieces()
    next(pieces)
    stopped = True
    with pytest.raises(Interrupted):
        next(pieces)
    delivery.close()


def test_the_tar_is_for_its_owner_only(archive: Archive, tar: Path) -> None:
    delivery = TarByFile(archive, tar, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    assert stat.S_IMODE(tar.stat().st_mode) == 0o600
    delivery.close()


def test_an_empty_tar_is_delivered_too(tmp_path: Path, make: Make) -> None:
    with open_archive(seal(tmp_path / "empty.enc", IMAGES, [], 0)) as empty:
        delivery = make(empty, nothing)
        delivery.authenticate(FRAGMENT, nothing)
        assert b"".join(delivery.pieces()) == b""
        delivery.close()


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_in_the_place_of_the_tar_is_not_followed(
    archive: Archive, tar: Path, tmp_path: Path, dangling: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if not dangling:
        elsewhere.write_bytes(b"")
    delivery = TarByFile(archive, tar, nothing)
    tar.symlink_to(elsewhere)  # after the delivery has removed the leftover
    with pytest.raises(StorageError, match="File exists"):
        delivery.authenticate(FRAGMENT, nothing)
    assert not elsewhere.exists() or elsewhere.read_bytes() == b""


def test_a_leftover_tar_is_replaced(archive: Archive, tar: Path) -> None:
    tar.write_bytes(b"of a run that was killed")
    delivery = TarByFile(archive, tar, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    assert tar.read_bytes() == TAR
    delivery.close()


def test_a_full_disk_is_reported_with_needed_and_free_bytes(archive: Archive, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        filler = fill(disk, leave=2 * MIB)
        delivery = TarByFile(archive, disk / "images.tar", nothing)
        with pytest.raises(DiskSpace, match=f"{disk}/images.tar needs {SIZE} bytes, [0-9]+ bytes are free"):
            delivery.authenticate(FRAGMENT, nothing)
        delivery.close()
        assert list(disk.iterdir()) == [filler]


def test_nothing_is_delivered_before_it_is_authenticated(archive: Archive, make: Make) -> None:
    delivery = make(archive, nothing)
    with pytest.raises(RuntimeError):
        next(delivery.pieces())
    damage(archive, 5)
    with pytest.raises(ArchiveCorrupt):
        delivery.authenticate(FRAGMENT, nothing)
    with pytest.raises(RuntimeError):
        next(delivery.pieces())
    delivery.close()


def test_a_tar_is_delivered_once(archive: Archive, make: Make) -> None:
    delivery = make(archive, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    next(delivery.pieces())
    with pytest.raises(RuntimeError):
        next(delivery.pieces())
    delivery.close()


def test_delivered_pieces_free_their_room_on_the_disk(archive: Archive, tar: Path) -> None:
    delivery = TarByFile(archive, tar, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    assert allocated(tar) >= SIZE
    # The room of a piece is freed when the next piece is taken.
    for given_back, _ in enumerate(delivery.pieces()):
        assert allocated(tar) <= SIZE - given_back * MIB + BLOCK_SIZE
    assert allocated(tar) <= BLOCK_SIZE
    delivery.close()


@pytest.mark.parametrize("segment", [0, 3, 5])
def test_an_archive_that_changes_between_the_passes_ends_the_stream(archive: Archive, segment: int) -> None:
    delivery = TarByStream(archive, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    damage(archive, segment)
    got = bytearray()
    with pytest.raises(ArchiveCorrupt):
        got.extend(byte for piece in delivery.pieces() for byte in piece)
    assert len(got) < SIZE
    assert TAR.startswith(got)


def test_an_archive_that_is_cut_between_the_passes_ends_the_stream(archive: Archive) -> None:
    delivery = TarByStream(archive, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    os.truncate(archive.path, archive.path.stat().st_size - MIB)
    with pytest.raises(ArchiveCorrupt, match="cut short"):
        list(delivery.pieces())


def test_a_closed_stream_keeps_no_fragment(archive: Archive) -> None:
    delivery = TarByStream(archive, nothing)
    delivery.authenticate(FRAGMENT, nothing)
    delivery.close()
    assert FRAGMENT not in vars(delivery).values()


@pytest.mark.parametrize(("mode", "kind"), [("tar", TarByFile), ("stream", TarByStream)])
def test_the_mode_chooses_the_delivery_and_an_error_closes_it(
    archive: Archive, tar: Path, mode: str, kind: type[TarDelivery]
) -> None:
    settings = dataclasses.replace(Settings.from_env({"UNLOCK_MODE": mode}), images_path=archive.path)

    def fail_in_the_middle() -> None:
        with tar_delivery(settings, archive, nothing) as delivery:
            assert isinstance(delivery, kind)
            delivery.authenticate(FRAGMENT, nothing)
            assert tar.exists() is (mode == "tar")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
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
