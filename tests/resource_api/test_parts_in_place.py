"""A part of a resumable upload is written once, at its place; what is there already is replaced only as a whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO
from unittest.mock import Mock

import pytest

from resource_api.data_directory import DataDirectory
from resource_api.storage.directory_uploads import MIN_PART_BYTES, DirectoryUploads
from resource_api.storage.interface import DiskFullError, Upload, UploadRefusedError
from resource_api.storage.upload_rules import OBJECT_BYTES
from tests.resource_api.conftest import EMAIL

LAST = 1000
SECOND = b"second part".ljust(LAST, b"-")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def put(uploads: DirectoryUploads, upload: Upload, number: int, content: bytes) -> str:
    return uploads.put_part(upload, number, len(content), bytes.fromhex(md5(content)), [content])


@pytest.fixture
def uploads(data: DataDirectory) -> DirectoryUploads:
    return DirectoryUploads(data)


@pytest.fixture
def no_copy(monkeypatch: pytest.MonkeyPatch) -> Callable[[OSError], None]:
    """A function that makes every copy of a part write half of it and fail."""

    def fail_with(error: OSError) -> None:
        def half(source: BinaryIO, target: BinaryIO, _: int) -> None:
            content = source.read()
            target.write(content[: len(content) // 2])
            target.flush()
            raise error

        monkeypatch.setattr(shutil, "copyfileobj", half)

    return fail_with


def test_a_part_that_is_half_in_its_place_is_not_there(
    uploads: DirectoryUploads, no_copy: Callable[[OSError], None]
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    put(uploads, upload, 1, b"x" * LAST)
    no_copy(OSError(5, "the disk fails"))
    with pytest.raises(OSError, match="the disk fails"):
        put(uploads, upload, 1, SECOND)
    assert uploads.parts(upload) == []
    with pytest.raises(UploadRefusedError):
        uploads.complete(upload, {1: md5(SECOND)})


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_is_a_fault_of_its_own(
    uploads: DirectoryUploads,
    no_copy: Callable[[OSError], None],
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
) -> None:
    with pytest.raises(DiskFullError):
        uploads.create("a", OBJECT_BYTES, EMAIL)
    upload = uploads.create("a", LAST, EMAIL)
    full = OSError(28, "no space")
    if is_there:
        put(uploads, upload, 1, b"x" * LAST)
        no_copy(full)
    else:
        monkeypatch.setattr(os, "pwrite", Mock(side_effect=full))
    with pytest.raises(DiskFullError):
        put(uploads, upload, 1, SECOND)
    assert uploads.parts(upload) == []


def test_a_mark_is_surely_gone_before_its_bytes_change(
    uploads: DirectoryUploads, data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    put(uploads, upload, 1, b"x" * LAST)
    marks, steps = data.uploads / upload.id / "marks", []
    copy, sync = shutil.copyfileobj, os.fdatasync

    def noted_copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
        steps.append("copy")
        copy(source, target, length)

    def noted_sync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), marks.stat()):
            assert not any(marks.read_bytes())
            steps.append("sync")
        sync(descriptor)

    monkeypatch.setattr(shutil, "copyfileobj", noted_copy)
    monkeypatch.setattr(os, "fdatasync", noted_sync)
    put(uploads, upload, 1, SECOND)
    assert steps == ["sync", "copy"]


def test_a_new_part_is_written_once(
    uploads: DirectoryUploads, data: DataDirectory, no_copy: Callable[[OSError], None]
) -> None:
    """A cut one is not there, and the next request for it writes it to its place as well."""
    no_copy(OSError(5, "a copy"))
    upload = uploads.create("a", LAST, EMAIL)

    def cut() -> Iterator[bytes]:
        yield SECOND[:1]
        assert uploads.parts(upload) == []
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        uploads.put_part(upload, 1, LAST, None, cut())
    assert uploads.parts(upload) == []
    put(uploads, upload, 1, SECOND)
    assert sorted(path.name for path in (data.uploads / upload.id).iterdir()) == ["content", "marks", "upload.json"]


def test_a_part_is_on_the_disk_before_its_mark(
    uploads: DirectoryUploads, data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    content, synced = data.uploads / upload.id / "content", []

    def sync(_: int) -> None:
        assert content.read_bytes() == SECOND
        synced.append(uploads.parts(upload))

    monkeypatch.setattr(os, "fdatasync", sync)
    put(uploads, upload, 1, SECOND)
    assert synced == [[]]


def overtaken(uploads: DirectoryUploads, upload: Upload, other: bytes) -> Iterator[bytes]:
    """Yield SECOND. When its first byte is written, another request stores `other` as the same part."""
    yield SECOND[:1]
    put(uploads, upload, 1, other)
    yield SECOND[1:]


def test_a_part_that_is_overtaken_changes_nothing(uploads: DirectoryUploads, data: DataDirectory) -> None:
    upload, other = uploads.create("a", LAST, EMAIL), b"x" * LAST
    uploads.put_part(upload, 1, LAST, None, overtaken(uploads, upload, other))
    assert [part.etag for part in uploads.parts(upload)] == [md5(other)]
    uploads.complete(upload, {1: md5(other)})
    assert (data.resources / "a").read_bytes() == other


def test_a_part_that_is_overtaken_in_vain_is_not_confirmed(
    uploads: DirectoryUploads, no_copy: Callable[[OSError], None]
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    no_copy(OSError(28, "no space"))

    def pieces() -> Iterator[bytes]:
        with suppress(DiskFullError):
            yield from overtaken(uploads, upload, b"x" * LAST)
        yield SECOND[1:]

    with pytest.raises(OSError, match="later request"):
        uploads.put_part(upload, 1, LAST, None, pieces())
    assert uploads.parts(upload) == []


def test_a_claim_of_a_process_that_was_killed_does_not_stop_the_part(
    uploads: DirectoryUploads, data: DataDirectory
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    (data.uploads / upload.id / f"1.{LAST}.claim").touch()
    put(uploads, upload, 1, SECOND)
    uploads.complete(upload, {1: md5(SECOND)})
    assert (data.resources / "a").read_bytes() == SECOND
    assert not (data.uploads / upload.id / f"1.{LAST}.claim").exists()


@pytest.mark.parametrize("other", [(1, 4), (2, 1), (3, 2), (4, 3)], ids=["same", "inside", "end", "beyond"])
def test_a_part_that_overlaps_one_that_is_being_written_replaces_it(
    uploads: DirectoryUploads, other: tuple[int, int]
) -> None:
    """`other` has the number and the size, in smallest parts, of the later one; the first one is (1, 4)."""
    upload = uploads.create("a", 8 * MIN_PART_BYTES, EMAIL)
    number, count = other

    def pieces() -> Iterator[bytes]:
        yield b"x"
        put(uploads, upload, number, b"y" * (count * MIN_PART_BYTES))
        yield b"x" * (4 * MIN_PART_BYTES - 1)

    uploads.put_part(upload, 1, 4 * MIN_PART_BYTES, None, pieces())
    assert [(part.number, part.size) for part in uploads.parts(upload)] == [(number, count * MIN_PART_BYTES)]


def test_two_parts_beside_each_other_are_written_at_the_same_time(
    uploads: DirectoryUploads, data: DataDirectory, no_copy: Callable[[OSError], None]
) -> None:
    no_copy(OSError(5, "a copy"))
    upload = uploads.create("a", MIN_PART_BYTES + LAST, EMAIL)
    first = b"x" * MIN_PART_BYTES

    def pieces() -> Iterator[bytes]:
        yield first[:1]
        put(uploads, upload, 2, SECOND)
        yield first[1:]

    etag = uploads.put_part(upload, 1, len(first), None, pieces())
    uploads.complete(upload, {1: etag, 2: md5(SECOND)})
    assert (data.resources / "a").read_bytes() == first + SECOND


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("content", [b"", b"x" * (MIN_PART_BYTES - 1), b"x" * (MIN_PART_BYTES + 1)])
def test_a_part_of_another_size_than_was_said_leaves_its_neighbour(
    uploads: DirectoryUploads, data: DataDirectory, content: bytes, is_there: bool
) -> None:
    upload = uploads.create("a", MIN_PART_BYTES + LAST, EMAIL)
    put(uploads, upload, 2, SECOND)
    before = [put(uploads, upload, 1, b"o" * MIN_PART_BYTES)] if is_there else []
    with pytest.raises(UploadRefusedError, match="as was said"):
        uploads.put_part(upload, 1, MIN_PART_BYTES, None, [content[:9], content[9:]])
    assert [part.etag for part in uploads.parts(upload)] == [*before, md5(SECOND)]
    etag = put(uploads, upload, 1, b"o" * MIN_PART_BYTES)
    uploads.complete(upload, {1: etag, 2: md5(SECOND)})
    assert (data.resources / "a").read_bytes() == b"o" * MIN_PART_BYTES + SECOND


def test_the_cost_of_a_part_does_not_depend_on_the_number_of_parts(
    uploads: DirectoryUploads, data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request lists the folder, and reads some marks."""
    upload = uploads.create("a", 300 * MIN_PART_BYTES, EMAIL)
    bytes_read = [0] * 200
    read = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        content = read(descriptor, size, offset)
        bytes_read[number] += len(content)
        return content

    monkeypatch.setattr(os, "pread", counted)
    for number in range(200):
        put(uploads, upload, number + 1, b"x" * MIN_PART_BYTES)
    assert bytes_read[199] == bytes_read[99]
    assert sorted(path.name for path in (data.uploads / upload.id).iterdir()) == ["content", "marks", "upload.json"]


@pytest.mark.parametrize("is_there", [(1, 32), (32, 1), (33, 32), (64, 32)], ids=str)
def test_a_large_part_replaces_whatever_it_overlaps(uploads: DirectoryUploads, is_there: tuple[int, int]) -> None:
    """`is_there` has the number and the size, in smallest parts, of the part before; the later one is (32, 32)."""
    upload = uploads.create("a", 100 * MIN_PART_BYTES, EMAIL)
    number, count = is_there
    put(uploads, upload, number, b"x" * (count * MIN_PART_BYTES))
    put(uploads, upload, 32, b"y" * (32 * MIN_PART_BYTES))
    stays = [(number, count)] if number == 64 else []
    parts = [(part.number, part.size // MIN_PART_BYTES) for part in uploads.parts(upload)]
    assert parts == [(32, 32), *stays]


def test_marks_that_a_power_cut_has_shortened_are_parts_that_are_not_there(
    uploads: DirectoryUploads, data: DataDirectory
) -> None:
    upload = uploads.create("a", MIN_PART_BYTES + LAST, EMAIL)
    first = put(uploads, upload, 1, b"o" * MIN_PART_BYTES)
    second = put(uploads, upload, 2, SECOND)
    marks = data.uploads / upload.id / "marks"
    os.truncate(marks, marks.stat().st_size - 9)
    assert [part.etag for part in uploads.parts(upload)] == [first]
    assert put(uploads, upload, 2, SECOND) == second
    uploads.complete(upload, {1: first, 2: second})
    assert (data.resources / "a").read_bytes() == b"o" * MIN_PART_BYTES + SECOND
