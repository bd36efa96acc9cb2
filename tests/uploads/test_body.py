"""A file as the body of a request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loader.errors import Interrupted, StorageError
from loader.files import SEND_SIZE
from loader.uploads.body import FilePieces

SURELY_UNREADABLE = Path("/proc/self/mem")  # Nothing is mapped at its start, so a read fails with EIO.


@pytest.mark.parametrize("size", [0, 1, SEND_SIZE - 1, SEND_SIZE, SEND_SIZE + 1, 3 * SEND_SIZE])
def test_each_iteration_yields_the_whole_file_in_pieces(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with path.open("rb") as file:
        pieces = FilePieces(file, path)
        assert len(pieces) == size
        assert b"".join(bytes(piece) for piece in pieces) == path.read_bytes()
        assert b"".join(bytes(piece) for piece in pieces) == path.read_bytes()
        assert all(0 < len(piece) <= SEND_SIZE for piece in pieces)


def test_a_checkpoint_runs_before_each_piece_and_can_stop_the_iteration(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * SEND_SIZE))
    calls = 0

    def stop_at_third_call() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted("enough")

    with path.open("rb") as file:
        pieces = iter(FilePieces(file, path, stop_at_third_call))
        next(pieces)
        next(pieces)
        with pytest.raises(Interrupted):
            next(pieces)


def test_a_read_error_while_sending_raises_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilePieces, "__len__", lambda _: 1)  # a file of /proc has no size
    with SURELY_UNREADABLE.open("rb", buffering=0) as file, pytest.raises(StorageError, match="/proc/self/mem"):
        next(iter(FilePieces(file, SURELY_UNREADABLE)))


@pytest.mark.parametrize("left", [0, 1, SEND_SIZE, SEND_SIZE + 1])
def test_a_file_that_is_cut_while_it_is_sent_raises_storage_error(tmp_path: Path, left: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * SEND_SIZE))
    with path.open("rb") as file:
        pieces = iter(FilePieces(file, path))
        next(pieces)
        os.truncate(path, left)
        with pytest.raises(StorageError, match=r"file cannot be used"):
            list(pieces)
