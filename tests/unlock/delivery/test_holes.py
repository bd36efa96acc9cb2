"""The room of the tar that the engine has taken is freed on the disk, where the system can do that."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from loader.unlock import tar_file
from loader.unlock.tar_file import punch_hole

MIB = 1 << 20
BLOCK_SIZE = 1 << 16  # the largest block of a usual file system


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, MIB), (MIB, 2 * MIB), (2 * MIB, MIB + 5), (0, 3 * MIB + 5)])
def test_a_hole_frees_its_blocks_and_reads_as_zeros(tmp_path: Path, offset: int, size: int) -> None:
    content = os.urandom(3 * MIB + 5)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(content)
        before = os.fstat(file.fileno())
        punch_hole(file, offset, size)
        after = os.fstat(file.fileno())
        assert os.pread(file.fileno(), len(content) + 1, 0) == (
            content[:offset] + bytes(min(size, len(content) - offset)) + content[offset + size :]
        )
    assert after.st_size == before.st_size
    assert (before.st_blocks - after.st_blocks) * 512 >= size - size % BLOCK_SIZE


@pytest.fixture
def fresh_lookup() -> Iterator[None]:
    """The C library is asked anew in this test, and after it."""
    tar_file._fallocate.cache_clear()
    yield
    tar_file._fallocate.cache_clear()


def use_library(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    monkeypatch.setattr("loader.unlock.tar_file.ctypes.CDLL", lambda _: library)


@pytest.mark.usefixtures("fresh_lookup")
def test_a_hole_is_made_with_the_one_function_that_musl_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_library(monkeypatch, SimpleNamespace(fallocate=ctypes.CDLL(None).fallocate64))
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(os.urandom(MIB))
        before = os.fstat(file.fileno())
        punch_hole(file, 0, MIB)
        assert (before.st_blocks - os.fstat(file.fileno()).st_blocks) * 512 >= MIB - BLOCK_SIZE
        assert file.seek(0) == 0
        assert file.read() == bytes(MIB)


@pytest.mark.usefixtures("fresh_lookup")
@pytest.mark.parametrize("lacking", ["the file system", "the C library"])
def test_punch_hole_does_nothing_without_support_for_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    if lacking == "the C library":
        use_library(monkeypatch, SimpleNamespace())
    # A file that is open only for reading refuses the call like a file system without support for holes.
    with path.open("rb" if lacking == "the file system" else "r+b") as file:
        punch_hole(file, 0, 4)
    assert path.read_bytes() == b"content"
