"""`open_regular` and `read_small`: only a regular file is opened, at once, whatever stands under its name."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from loader.errors import StorageError
from loader.files import NotRegular, open_regular, read_small, storage
from tests.support.procfs import open_descriptors
from tests.support.special_files import SECRET, SPECIAL_FILES, secret_beside

pytestmark = pytest.mark.timeout(20)  # a pipe that is opened in the usual way waits for its other end, forever

FLAGS = {"read": os.O_RDONLY, "write": os.O_RDWR, "create": os.O_RDWR | os.O_CREAT}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_what_is_no_regular_file_is_not_opened(path: Path, kind: str, flags: int) -> None:
    SPECIAL_FILES[kind](path)
    before = open_descriptors(os.getpid())
    with pytest.raises(NotRegular) as raised:
        open_regular(path, flags)
    assert raised.value.strerror == "it is not a regular file"
    assert open_descriptors(os.getpid()) == before
    assert not (path.parent / "nowhere").exists()
    if kind == "link to a secret":
        assert secret_beside(path).read_bytes() == SECRET


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
def test_a_directory_is_not_opened(path: Path, flags: int) -> None:
    path.mkdir()
    with pytest.raises((NotRegular, IsADirectoryError)):
        open_regular(path, flags)


@pytest.mark.parametrize("kind", ["link to a pipe", "link to a device"])
def test_a_link_that_is_followed_must_lead_to_a_regular_file(path: Path, kind: str) -> None:
    SPECIAL_FILES[kind](path)
    with pytest.raises(NotRegular):
        open_regular(path, follow=True)


def test_a_link_is_followed_on_request_only(path: Path) -> None:
    SPECIAL_FILES["link to a secret"](path)
    descriptor = open_regular(path, follow=True)
    assert os.read(descriptor, 100) == SECRET
    os.close(descriptor)


def test_a_link_in_the_path_of_the_directory_is_followed(path: Path, tmp_path: Path) -> None:
    """An operator may keep the whole directory on another disk."""
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path)
    assert read_small(tmp_path / "link" / path.name, 100) == b"content"


def test_a_link_that_leads_nowhere_is_absent_if_it_is_followed(path: Path) -> None:
    SPECIAL_FILES["dangling link"](path)
    with pytest.raises(FileNotFoundError):
        open_regular(path, follow=True)


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        os.close(open_regular(path, os.O_RDWR | os.O_CREAT))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_descriptor_is_not_inherited(path: Path) -> None:
    path.touch()
    descriptor = open_regular(path)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 99, 100])
def test_a_small_file_is_read_whole(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)
    assert read_small(path, 100) == b"x" * size


@pytest.mark.parametrize("size", [101, 1 << 40])
def test_a_file_that_is_too_large_is_not_read(path: Path, size: int) -> None:
    """The larger one is sparse: it takes no room on the disk, but would take all of the memory."""
    path.touch()
    os.truncate(path, size)
    with pytest.raises(OSError, match="File too large") as raised:
        read_small(path, 100)
    assert raised.value.errno == errno.EFBIG


def test_the_error_says_what_is_wrong_in_one_sentence(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StorageError) as raised, storage(path, 0):
        open_regular(path)
    assert str(raised.value) == f"{path} cannot be used: it is not a regular file."
