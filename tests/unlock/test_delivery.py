"""The delivery of the layouts from an archive to the engine, through a file or directly."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.crypto.archive_head import GZIP, PLAIN
from loader.crypto.blobs import associated_data, blob_key
from loader.crypto.streaming_aead import encrypt
from loader.errors import ArchiveCorrupt, DiskSpace, Interrupted, StorageError
from loader.oci import Layout
from loader.settings import Settings
from loader.unlock.delivery import Delivery, StreamDelivery, TarDelivery, image_delivery, tar_path
from loader.unlock.plan import layouts_of
from loader.unlock.tar_file import remove_tar
from tests.support.handmade_image import FRAGMENT, ROOT, HandmadeImage, HandmadeLayer, seal
from tests.support.small_disk import fill, small_disk

MIB = 1 << 20
PAGE = 4096
BLOCK_SIZE = 1 << 16  # the largest block of a file system
BASE = HandmadeLayer(os.urandom(1000), 1, "base.bin")
TOP = HandmadeLayer(os.urandom(MIB), 3, "top.bin")
# The layer of the second image is at the bottom of the first one too, so that its layout holds no layer.
IMAGES = (HandmadeImage("app:1.4", (BASE, TOP)), HandmadeImage("database:9", (BASE,)))

Make = Callable[[Archive, Callable[[], None]], Delivery]


def nothing(*_: object) -> None:
    """Do nothing, as a checkpoint or as a callback."""


@pytest.fixture(params=[PLAIN])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of `IMAGES`, sealed with the codec of the parameter."""
    with open_archive(seal(tmp_path / "images.enc", IMAGES, codec=request.param)) as opened:
        yield opened


each_codec = pytest.mark.parametrize("archive", [PLAIN, GZIP], indirect=True)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "images.tar"


@pytest.fixture(params=["tar", "stream"])
def make(request: pytest.FixtureRequest, tar: Path) -> Make:
    """Make the delivery of each mode in turn."""
    if request.param == "stream":
        return lambda archive, checkpoint: StreamDelivery(archive, layouts(archive), checkpoint)
    return lambda archive, checkpoint: by_file(archive, tar, checkpoint)


def by_file(archive: Archive, tar: Path, checkpoint: Callable[[], None] = nothing) -> TarDelivery:
    return TarDelivery(archive, layouts(archive), tar, checkpoint)


def layouts(archive: Archive) -> tuple[Layout, ...]:
    """Return what an engine without images gets."""
    return tuple(layouts_of(archive.head, set()))


def take_into(got: bytearray, delivery: Delivery, layout: Layout, after_piece: Callable[[], None] = nothing) -> None:
    """Add the pieces of a layout to `got` until an error ends them."""
    for piece in delivery.pieces(layout):
        got += piece
        after_piece()


def prepare_and_take(got: bytearray, delivery: Delivery, layout: Layout) -> None:
    delivery.prepare(FRAGMENT, nothing)
    take_into(got, delivery, layout)


def whole(archive: Archive, number: int) -> Layout:
    """Return the layout of an image with all of its layers."""
    image = archive.head.images[number]
    return Layout(archive.head, image, image.layers)


def taken(delivery: Delivery, layout: Layout) -> bytes:
    return b"".join(map(bytes, delivery.pieces(layout)))


def members(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar, which must be whole and nothing else."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as opened:
        files = {entry.name: opened.extractfile(entry).read() for entry in opened}  # type: ignore[union-attr]
        assert data[opened.offset :].strip(b"\0") == b""
    return files


def assert_is(data: bytes, layout: Layout) -> None:
    """Require that `data` is the tar of `layout`: its listings, and each blob with the content of its digest."""
    files = members(data)
    blobs = [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in layout.blobs]
    assert list(files) == ["oci-layout", "index.json", "manifest.json", *blobs]
    assert [hashlib.sha256(files[name]).hexdigest() for name in blobs] == [name.rpartition("/")[2] for name in blobs]
    assert len(data) == layout.size


def top_layer(archive: Archive) -> str:
    """Return the digest of the layer of more than 3 MiB."""
    return archive.head.images[0].layers[1]


def damage(archive: Archive, digest: str, piece: int) -> None:
    """Change one bit of a piece of a stored blob while the archive is open."""
    with archive.path.open("r+b") as file:
        file.seek(archive.index.offsets[digest] + piece * MIB + 60)
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


@pytest.mark.parametrize("piece", range(4))
def test_a_damaged_piece_ends_the_preparation_before_any_delivery(
    archive: Archive, make: Make, tar: Path, piece: int
) -> None:
    damage(archive, top_layer(archive), piece)
    delivery = make(archive, nothing)
    reached = [0]
    # Mode tar decrypts in the same pass, so that the cipher notices the damage first.
    noticed = f"the blob {top_layer(archive)} is not the one that its head names|segment {piece} does not authenticate"
    with pytest.raises(ArchiveCorrupt, match=noticed):
        delivery.prepare(FRAGMENT, reached.append)
    assert reached[-1] < delivery.preparation
    with pytest.raises(RuntimeError):
        next(delivery.pieces(layouts(archive)[0]))
    delivery.close()
    assert not tar.exists()


def test_a_blob_that_the_cipher_accepts_must_still_be_the_one_of_the_head(
    archive: Archive, make: Make, tar: Path
) -> None:
    """Whoever has the root can seal the same bytes under another header: they decrypt, but are stored otherwise."""
    blob = archive.head.blob[top_layer(archive)]
    sealed_anew = encrypt(TOP.content(), blob_key(blob.packed, ROOT), associated_data(blob.packed))
    with archive.path.open("r+b") as file:
        file.seek(archive.index.offsets[blob.digest])
        file.writelines(sealed_anew)
    delivery = make(archive, nothing)
    with pytest.raises(ArchiveCorrupt, match=f"the blob {blob.digest} is not the one that its head names"):
        delivery.prepare(FRAGMENT, nothing)
    with pytest.raises(RuntimeError):
        next(delivery.pieces(layouts(archive)[0]))
    delivery.close()
    assert not tar.exists()


def test_a_fragment_that_only_the_key_check_accepts_authenticates_nothing(
    archive: Archive, make: Make, tar: Path
) -> None:
    """The key check only gives an early error; the MAC of the head protects."""
    delivery = make(archive, nothing)
    reached: list[int] = []
    with pytest.raises(ArchiveCorrupt):
        delivery.prepare(b"x" * 32, reached.append)
    assert reached == []
    delivery.close()
    assert not tar.exists()


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


def test_a_disk_that_is_full_when_a_layout_is_written_again_is_reported(archive: Archive, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 6 * MIB) as disk:
        delivery = by_file(archive, disk / "images.tar")
        delivery.prepare(FRAGMENT, nothing)
        filler = fill(disk, leave=PAGE)
        next(delivery.pieces(layouts(archive)[0]))
        with pytest.raises(DiskSpace):
            taken(delivery, layouts(archive)[0])
        delivery.close()
        assert list(disk.iterdir()) == [filler]


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


@each_codec
@pytest.mark.parametrize("digest", ["manifest", "config", "layer"])
def test_an_archive_that_changes_between_the_passes_ends_the_stream(archive: Archive, digest: str) -> None:
    image = archive.head.images[0]
    digests = {"manifest": image.manifest, "config": image.config, "layer": image.layers[1]}
    delivery = StreamDelivery(archive, layouts(archive), nothing)
    delivery.prepare(FRAGMENT, nothing)
    damage(archive, digests[digest], 0)
    got = bytearray()
    with pytest.raises(ArchiveCorrupt, match=f"the blob {digests[digest]} changed while it was read"):
        take_into(got, delivery, layouts(archive)[0])
    # The header of the member was sent, but no byte of the changed blob.
    assert digests[digest].removeprefix("sha256:").encode() in got[-tarfile.BLOCKSIZE :]


@pytest.mark.parametrize("planned", [True, False])
def test_an_archive_that_changes_after_the_preparation_changes_nothing_in_the_tar(
    archive: Archive, tar: Path, planned: bool
) -> None:
    """What was written is sent. A layout that is written later is compared piece by piece."""
    delivery = by_file(archive, tar)
    delivery.prepare(FRAGMENT, nothing)
    damage(archive, top_layer(archive), 2)
    layout = layouts(archive)[0]
    assert_is(taken(delivery, layout), layout)
    if not planned:
        with pytest.raises(ArchiveCorrupt, match="changed while it was read"):
            taken(delivery, layout)
    delivery.close()
    assert not tar.exists()


def test_an_archive_that_is_cut_between_the_passes_ends_the_stream(archive: Archive) -> None:
    delivery = StreamDelivery(archive, layouts(archive), nothing)
    delivery.prepare(FRAGMENT, nothing)
    os.truncate(archive.path, archive.index.offsets[top_layer(archive)] + MIB)
    with pytest.raises(ArchiveCorrupt, match="cut short"):
        taken(delivery, layouts(archive)[0])


@pytest.mark.parametrize("content", [bytes(50 * MIB), b"short"], ids=["bomb", "short"])
def test_a_blob_of_another_size_than_the_head_says_ends_the_delivery(
    tmp_path: Path, tar: Path, content: bytes, make: Make
) -> None:
    """Whoever has the fragment can seal such a blob; the loader inflates no byte more than its head announces."""
    layer = IMAGES[1].image.layers[0]
    path = seal(tmp_path / "lying.enc", IMAGES[1:], codec=GZIP, lies={layer: content})
    with open_archive(path) as lying:
        delivery = make(lying, nothing)
        got = bytearray()
        with pytest.raises(ArchiveCorrupt, match=r"its gzip holds (more|less) than it announces"):
            prepare_and_take(got, delivery, layouts(lying)[0])
        assert len(got) < layouts(lying)[0].size
        delivery.close()
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


def test_the_tar_lies_beside_the_archive() -> None:
    assert tar_path(Settings.from_env({})) == Path("/opt/azaion/images.tar")
    assert tar_path(Settings.from_env({"IMAGES_PATH": "/x/archive"})) == Path("/x/archive.tar")


def test_a_tar_that_cannot_be_removed_causes_a_warning(tar: Path, caplog: pytest.LogCaptureFixture) -> None:
    remove_tar(tar)
    assert caplog.messages == []
    tar.mkdir()
    remove_tar(tar)
    assert [str(tar) in message for message in caplog.messages] == [True]
