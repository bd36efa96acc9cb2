"""The contents of an archive: authenticated, read, and interrupted."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from loader.binary_split import Archive, Contents, open_archive
from loader.crypto.pieces import PieceDigests
from loader.errors import CorruptCiphertext, Interrupted
from loader.oci import Layout
from tests.binary_split.images import IMAGES, LARGE, MIB
from tests.crypto.reference_archive import digest
from tests.crypto.whole_archive import authenticate_all, nothing
from tests.support.handmade_image import FRAGMENT, seal
from tests.support.loader_server import REPOSITORY


@pytest.fixture(params=["none", "gzip"])
def archive_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An archive of `IMAGES` with each codec."""
    return seal(tmp_path / "images.enc", IMAGES, codec=request.param)


def content(contents: Contents, digest_: str) -> bytes:
    return b"".join(map(bytes, contents.content(digest_)))


def test_every_blob_is_read_as_often_as_wanted(archive_path: Path) -> None:
    expected = {name: b"".join(pieces) for image in IMAGES for name, pieces in image.contents().items()}
    with open_archive(archive_path) as archive:
        contents = archive.unseal(FRAGMENT, nothing)
        authenticate_all(contents)
        for _ in range(2):
            assert {blob.digest: content(contents, blob.digest) for blob in contents.head.blobs} == expected


def test_a_blob_is_authenticated_once(opened: Archive) -> None:
    contents = opened.unseal(FRAGMENT, nothing)
    large = LARGE.described[0]
    done = list(contents.authenticate(large))
    assert done == [*range(MIB, done[-1], MIB), contents.head.blob[large].stored_size]
    assert list(contents.authenticate(large)) == []


def test_a_blob_that_was_not_authenticated_is_not_read(opened: Archive) -> None:
    contents = opened.unseal(FRAGMENT, nothing)
    with pytest.raises(KeyError):
        next(iter(contents.content(LARGE.described[0])))
    next(contents.authenticate(LARGE.described[0]))
    with pytest.raises(KeyError):
        next(iter(contents.content(LARGE.described[0])))


def test_a_layout_is_a_tar_of_the_size_that_it_tells(archive_path: Path) -> None:
    with open_archive(archive_path) as archive:
        contents = archive.unseal(FRAGMENT, nothing)
        authenticate_all(contents)
        for image in archive.head.images:
            layout = Layout(archive.head, image, image.layers)
            tar = b"".join(map(bytes, contents.layout(layout, contents.content)))
            assert len(tar) == layout.size
            with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
                for digest_ in layout.blobs:
                    member = opened.extractfile(f"blobs/sha256/{digest_.removeprefix('sha256:')}")
                    assert member is not None
                    assert digest(member.read()) == digest_


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_checkpoint_stops_the_work_before_the_next_piece(opened: Archive, calls: int) -> None:
    left = [1000]

    def checkpoint() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted("told to stop")

    contents = opened.unseal(FRAGMENT, checkpoint)
    left[0] = calls
    with pytest.raises(Interrupted):
        authenticate_all(contents)
    left[0] = 1000
    authenticate_all(contents)
    left[0] = calls
    with pytest.raises(Interrupted):
        content(contents, LARGE.described[0])


def test_the_pieces_of_a_stored_blob_have_one_mib_and_its_digest(opened: Archive) -> None:
    blob, digests = opened.head.blob[LARGE.described[0]], PieceDigests()
    sizes = list(opened.stored(blob).add_to(digests))
    assert sum(sizes) == blob.stored_size
    assert sizes[:-1] == [MIB] * (len(sizes) - 1)
    assert digests.hex() == blob.stored


def test_a_file_that_was_cut_while_it_is_read_is_corrupt(opened: Archive) -> None:
    blob, digests = opened.head.blob[LARGE.described[0]], PieceDigests()
    os.truncate(opened.path, opened.index.offsets[blob.digest] + blob.stored_size - 1)
    list(opened.stored(blob).add_to(digests))
    with pytest.raises(CorruptCiphertext, match="cut short while it was read"):
        digests.hex()


READ_WHILE_PYTHON_ENDS = """
import sys, threading
from pathlib import Path
from loader.binary_split import open_archive
from loader.errors import Interrupted

told_to_stop = threading.Event()

def checkpoint():
    if told_to_stop.is_set():
        raise Interrupted("told to stop")

def read():
    with open_archive(Path(sys.argv[1])) as archive:
        contents = archive.unseal(sys.argv[2].encode(), checkpoint)
        blob = max(archive.head.blobs, key=lambda blob: blob.size)
        list(contents.authenticate(blob.digest))
        pieces = iter(contents.content(blob.digest))
        next(pieces)
        threading.main_thread().join()
        told_to_stop.set()
        try:
            list(pieces)
        except Exception as exc:
            print(type(exc).__name__)

threading.Thread(target=read).start()
"""


def test_reading_can_be_interrupted_while_python_exits(archive_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_WHILE_PYTHON_ENDS, str(archive_path), FRAGMENT.decode()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("Interrupted\n", "")
