"""A disk that is out of inodes: it takes no further file, although bytes are free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.errors import DiskSpace
from loader.files import INODES_HINT, has_inodes, replacement, storage, write_whole
from loader.model_cache.cache import ModelCache
from tests.conftest import StartLoader
from tests.model_cache.memory_upstream import memory_part
from tests.support.http_calls import call
from tests.support.loader_server import LoaderServer
from tests.support.small_disk import fill, free_bytes, small_disk, use_inodes

MIB = 1 << 20
INODES = 20
OUT = r"The disk of .* is out of inodes: it takes no further file, but [1-9][0-9]* bytes are free\."


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8 * MIB, inodes=INODES) as directory:
        yield directory


def test_a_file_that_cannot_be_made_says_that_inodes_are_missing(disk: Path) -> None:
    assert has_inodes(disk)
    use_inodes(disk)
    assert not has_inodes(disk)
    with pytest.raises(DiskSpace, match=OUT) as raised, storage(disk / "file", 5):
        write_whole(disk / "file", b"12345")
    assert raised.value.hint == INODES_HINT
    assert free_bytes(disk) > MIB


def test_a_disk_without_bytes_says_that_bytes_are_missing(disk: Path) -> None:
    fill(disk, leave=0)
    with (
        pytest.raises(DiskSpace, match=r"The disk is full: .*file needs 5 bytes, 0 bytes are free\."),
        storage(disk / "file", 5),
        replacement(disk / "file") as file,
    ):
        file.write(b"12345")
    assert has_inodes(disk)


def test_a_file_system_without_a_number_of_inodes_has_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Btrfs does, which this machine may not have."""

    class Usage:
        f_files = f_favail = 0

    monkeypatch.setattr("loader.files.os.statvfs", lambda _: Usage)
    assert has_inodes(tmp_path)


def test_a_load_says_that_inodes_are_missing_and_goes_on_afterwards(disk: Path) -> None:
    part = memory_part("part", bytes(MIB))
    cache = ModelCache(disk / "models", 0, 1)
    (disk / "models").mkdir()
    made = use_inodes(disk)
    with pytest.raises(DiskSpace, match=OUT):
        part.plaintext(cache)
    for path in made:
        path.unlink()
    assert part.load(cache) == part.content


def readiness(loader: LoaderServer) -> dict[str, Any]:
    reply = call(loader.url, "GET", "/ready")
    assert reply.status == 503
    return dict(json.loads(reply.body))


def test_the_loader_is_not_ready_on_a_disk_without_inodes(disk: Path, start_loader: StartLoader) -> None:
    models = disk / "models"
    models.mkdir()
    loader = start_loader(MODEL_CACHE_DIR=str(models))
    made = use_inodes(models)
    problem = readiness(loader)
    assert "DISK_SPACE" in problem["reasons"]
    assert f"The disk of {models} is out of inodes" in problem["detail"]
    for path in made:
        path.unlink()
    assert "DISK_SPACE" not in readiness(loader)["reasons"]
