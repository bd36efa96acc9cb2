"""A small file that is parsed again only when it has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resource_api.accounts import Role, Users
from resource_api.cached_file import CachedFile
from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import EMAIL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def parsed() -> list[bytes]:
    """Return what was parsed so far."""
    return []


@pytest.fixture
def file(path: Path, parsed: list[bytes]) -> CachedFile[bytes]:
    def parse(content: bytes) -> bytes:
        parsed.append(content)
        if content == b"wrong":
            raise ValueError("damaged")
        return content

    return CachedFile(path, parse)


def replace_at_once(path: Path, content: bytes) -> None:
    """Replace the file by one of the same time of change."""
    status, new = path.stat(), path.with_suffix(".new")
    new.write_bytes(content)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def change_in_place(path: Path, content: bytes) -> None:
    """Write other bytes into the same file, a tick of the clock later."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_an_unchanged_file_is_parsed_once(file: CachedFile[bytes], parsed: list[bytes]) -> None:
    assert [file.read() for _ in range(3)] == [b"first"] * 3
    assert parsed == [b"first"]


@pytest.mark.parametrize("change", [replace_at_once, change_in_place])
@pytest.mark.parametrize("content", [b"other", b"longer"])
def test_a_changed_file_is_parsed_at_the_next_read(
    path: Path, file: CachedFile[bytes], parsed: list[bytes], change: Callable[[Path, bytes], None], content: bytes
) -> None:
    assert file.read() == b"first"
    change(path, content)
    assert [file.read() for _ in range(2)] == [content] * 2
    assert parsed == [b"first", content]


def test_a_damaged_file_is_an_error_at_each_read_until_it_is_repaired(path: Path, file: CachedFile[bytes]) -> None:
    assert file.read() == b"first"
    replace_at_once(path, b"wrong")
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            file.read()
    replace_at_once(path, b"first")
    assert file.read() == b"first"


def test_a_missing_file_is_an_error(path: Path, file: CachedFile[bytes]) -> None:
    file.read()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.read()


def test_a_change_of_users_counts_within_the_same_tick(data: DataDirectory) -> None:
    users = Users(data)
    present = users.find(EMAIL)
    assert present is not None
    assert present.role is Role.PUBLISHER
    replace_at_once(data.users_file, data.users_file.read_bytes().replace(b'"publisher"', b'   "reader"'))
    changed = users.find(EMAIL)
    assert changed is not None
    assert changed.role is Role.READER


def test_what_one_caller_changes_is_not_what_others_are_given(data: DataDirectory) -> None:
    users = Users(data)
    before = users.all()
    users.set_secret("device-7")
    assert len(users.all()) == 2
    users.remove("device-7")
    assert users.all() == before
