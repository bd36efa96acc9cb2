"""The functions of `loader.files`: reading and writing in pieces, writing a whole file or nothing, errors of disks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from loader import files
from loader.errors import DiskSpace, LoaderError, StorageError
from loader.files import (
    SEND_SIZE,
    SYNC_SIZE,
    WRITE_SIZE,
    Unreadable,
    make_private_directory,
    read_pieces,
    remove_unfinished,
    replacement,
    storage,
    sync_directory,
    synced_along,
    write_at,
    write_durable,
    write_large,
    write_whole,
)
from tests.support.small_disk import fill, make_read_only, small_disk

MIB = 1 << 20
WAIT_SECONDS = 30.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MiB and return its directory."""
    with small_disk(tmp_path / "disk", 2 * MIB) as directory:
        yield directory


@pytest.mark.parametrize("begin", [0, 1, SEND_SIZE - 1])
@pytest.mark.parametrize("size", [0, 1, SEND_SIZE, SEND_SIZE + 1, 2 * SEND_SIZE + 7])
def test_read_pieces_reads_a_part_of_a_file(tmp_path: Path, begin: int, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(begin + size + 9))
    with path.open("rb") as file:
        file.seek(5)
        pieces = [bytes(piece) for piece in read_pieces(file, begin, size)]
        assert file.tell() == 5  # the position of the file does not matter, and stays
    assert b"".join(pieces) == path.read_bytes()[begin : begin + size]
    assert all(0 < len(piece) <= SEND_SIZE for piece in pieces)


def test_read_pieces_raises_an_error_at_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file, pytest.raises(OSError, match="cut short"):
        list(read_pieces(file, 3, 5))


def test_read_pieces_reads_what_was_written_meanwhile(tmp_path: Path) -> None:
    """A piece is read when it is asked for, from the file that is open and not from its name."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * SEND_SIZE))
    with path.open("r+b", buffering=0) as file:
        pieces = read_pieces(file, 0, 2 * SEND_SIZE)
        next(pieces)
        path.unlink()
        os.pwrite(file.fileno(), b"new", SEND_SIZE)
        assert bytes(next(pieces)[:3]) == b"new"


@pytest.mark.parametrize("size", [0, 1, WRITE_SIZE - 1, WRITE_SIZE, WRITE_SIZE + 1, 3 * WRITE_SIZE + 5])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write_large_writes_everything_in_small_calls(size: int, kind: Callable[[bytes], bytes]) -> None:
    data, written = os.urandom(size), []
    file = Mock(write=lambda piece: written.append(bytes(piece)))
    write_large(file, kind(data))
    assert b"".join(written) == data
    assert max(map(len, written), default=0) <= WRITE_SIZE


@pytest.mark.parametrize("size", [0, 1, WRITE_SIZE, 3 * WRITE_SIZE + 5])
def test_write_at_writes_everything_at_its_place(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        write_at(file.fileno(), bytearray(data), 100)
    assert (tmp_path / "file").read_bytes() == b"before" + (bytes(94) + data if size else b"")


def test_no_two_writes_of_write_at_share_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, original = [], os.pwrite

    def noted(descriptor: int, data: memoryview, offset: int) -> int:
        places.append((offset, len(data)))
        return original(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        write_at(file.fileno(), bytes(2 * WRITE_SIZE), 100)
    assert places == [(100, WRITE_SIZE - 100), (WRITE_SIZE, WRITE_SIZE), (2 * WRITE_SIZE, 100)]


def test_disk_space_names_the_path_and_the_needed_and_free_bytes(disk: Path) -> None:
    fill(disk, leave=0)
    path = disk / "big"
    with pytest.raises(DiskSpace) as caught, storage(path, 12_345), path.open("wb") as file:
        file.write(bytes(MIB))
    assert str(path) in str(caught.value)
    assert "12345 bytes" in str(caught.value)
    assert "0 bytes are free" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_write_to_a_read_only_disk_raises_storage_error(disk: Path) -> None:
    make_read_only(disk)
    path = disk / "file"
    with pytest.raises(StorageError, match=r"disk/file cannot be used: Read-only file system\."), storage(path, 0):
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskSpace),
        (errno.EDQUOT, DiskSpace),
        (errno.EIO, Unreadable),
        (errno.EBADMSG, Unreadable),
        (errno.EUCLEAN, Unreadable),
        (errno.EROFS, StorageError),
        (errno.EACCES, StorageError),
        (errno.ENOENT, StorageError),
        (errno.EMFILE, StorageError),
    ],
)
def test_storage_translates_each_error_number(tmp_path: Path, number: int, expected: type[LoaderError]) -> None:
    with pytest.raises(expected) as caught, storage(tmp_path / "file", 1):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is expected
    assert str(tmp_path / "file") in str(caught.value)


def test_storage_error_names_a_path_in_a_missing_directory() -> None:
    path = Path("/nonexistent/directory/file")
    with (
        pytest.raises(StorageError, match="/nonexistent/directory/file cannot be used: No such file"),
        storage(path, 0),
    ):
        path.write_bytes(b"x")


def test_storage_does_not_change_other_exceptions(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage(tmp_path, 0):
        raise ZeroDivisionError


def test_write_whole_makes_a_file_that_only_its_owner_can_use(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208  # hidden files count


def test_write_whole_replaces_a_file_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_write_whole_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_bytes(b"not ours")
    path.symlink_to(target)
    write_whole(path, b"new")
    assert target.read_bytes() == b"not ours"
    assert not path.is_symlink()


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = {bytes([number]) * MIB for number in (1, 2)}
    write_whole(path, min(versions))
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for version in versions:
                write_whole(path, version)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    writer.join(WAIT_SECONDS)
    assert seen <= versions


def test_write_whole_on_a_full_disk_keeps_the_old_file_and_leaves_no_other(disk: Path) -> None:
    path = disk / "file"
    write_whole(path, b"old")
    fill(disk, leave=MIB)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, bytes(2 * MIB))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(disk)) == ["file", "filler"]  # noqa: PTH208  # hidden files count


def test_write_durable_makes_the_directory_and_syncs_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "file"
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(files, "sync_directory", lambda directory: synced.append((directory, path.exists())))
    write_durable(path, b"content")
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert synced == [(path.parent, True)]


def test_write_whole_to_the_path_of_a_directory_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "directory"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"new")
    assert os.listdir(tmp_path) == ["directory"]  # noqa: PTH208  # hidden files count


def test_make_private_directory_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make_private_directory(path)
    make_private_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_remove_unfinished_removes_only_files_of_killed_writes(tmp_path: Path) -> None:
    path = tmp_path / "[x].json"
    write_whole(path, b"whole")
    half = tmp_path / ".[x].json.a_c4efgh"
    alike = (".x.json.abcdefgh", ".[x].jsonabcdefgh", "[x].json.abcdefgh", ".[x].json.sig", ".[x].json.Saved-01")
    others = [tmp_path / name for name in alike]
    for file in (half, *others):
        file.write_bytes(b"half")
    remove_unfinished(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def names_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208  # hidden files count


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacement(path) as first:
        first.write(b"first")
        with replacement(path) as second:
            second.write(b"second")
            remove_unfinished(path)
            assert len(names_in(tmp_path)) == 2
        assert path.read_bytes() == b"second"
        write_whole(path, b"third")
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["file"]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # it ends as if it was killed
        with replacement(path) as file:
            file.write(b"half")
            os._exit(0)
    os.waitpid(pid, 0)
    (left,) = names_in(tmp_path)
    assert left.startswith(".file.")
    with replacement(path):
        assert left not in names_in(tmp_path)
    assert names_in(tmp_path) == ["file"]


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    create = tempfile.mkstemp

    def create_and_lose(**options: Any) -> tuple[int, str]:
        descriptor, name = create(**options)
        made.append(name)
        if len(made) == 1:
            remove_unfinished(tmp_path / "file")
        return descriptor, name

    monkeypatch.setattr(tempfile, "mkstemp", create_and_lose)
    write_whole(tmp_path / "file", b"content")
    assert len(made) == 2
    assert (tmp_path / "file").read_bytes() == b"content"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_files_are_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "file"
    with replacement(path) as file:
        file.write(b"first")
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["file"]


def test_only_regular_files_are_taken_for_unfinished_ones(tmp_path: Path) -> None:
    pipe, link, other = (tmp_path / f".file.abcdefg{end}" for end in "123")
    os.mkfifo(pipe)
    (tmp_path / "target").write_bytes(b"not ours")
    link.symlink_to(tmp_path / "target")
    other.mkdir()
    remove_unfinished(tmp_path / "file")
    assert link.is_symlink()
    assert other.is_dir()
    assert (tmp_path / "target").read_bytes() == b"not ours"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_directory_that_cannot_be_synced_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A fake for file systems that sync files only."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("loader.files.os.fsync", refuse)
    sync_directory(tmp_path)


def test_a_directory_that_the_disk_does_not_take_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake for a disk that fails while it is written to."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("loader.files.os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_directory(tmp_path)


def test_a_file_is_synced_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, may_end, original = threading.Semaphore(0), threading.Event(), os.fsync
    counted: list[int] = []

    def slow(descriptor: int) -> None:
        calls.release()
        assert may_end.wait(WAIT_SECONDS)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with (tmp_path / "file").open("wb") as file, synced_along(file, counted.append) as written:
        written(SYNC_SIZE - 1)
        assert not calls.acquire(blocking=False)
        written(1)
        assert calls.acquire(timeout=WAIT_SECONDS)
        written(3 * SYNC_SIZE)  # one sync runs
        may_end.set()
    assert not calls.acquire(blocking=False)
    assert counted == [SYNC_SIZE - 1, 1, 3 * SYNC_SIZE]


def test_the_error_of_an_early_sync_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells each opening of a file once that the disk has failed."""
    errors = iter([OSError(errno.EIO, "failed")])

    def failing(_descriptor: int) -> None:
        for error in errors:
            raise error

    monkeypatch.setattr(os, "fsync", failing)
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(OSError, match="failed"),
        synced_along(file, lambda _: None) as written,
    ):
        written(SYNC_SIZE)
