"""The cache adopts the big part of an upload: it writes the part to the disk while the loader sends it to the API."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pytest

from loader.errors import ApiUnreachable
from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import CONTENT, MIB, SECONDS, MemoryPart, memory_part, wait_until_idle
from tests.support.processes import poll


class SlowDisk:
    """A disk whose `fsync` of an upload waits until `released` is set, and then raises `failure` if there is one."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.released = threading.Event()
        self.failure: OSError | None = None

    def fsync(self, _: int) -> None:
        if not threading.current_thread().name.startswith("sync"):
            return
        self.started.set()
        assert self.released.wait(SECONDS)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Make `fsync` slow for uploads, and wait at the end until no upload is being synced."""
    slow = SlowDisk()
    monkeypatch.setattr("loader.files.os.fsync", slow.fsync)
    yield slow
    slow.released.set()
    poll(
        lambda: not any(thread.name.startswith("sync") for thread in threading.enumerate()),
        SECONDS,
        "no upload is being synced",
    )


def start_upload(cache: ModelCache, part: MemoryPart, until_the_upload_ends: ExitStack) -> BinaryIO:
    file = until_the_upload_ends.enter_context(cache.upload(len(part.data)))
    file.write(part.data)
    file.flush()
    return file


def names(cache: ModelCache) -> list[str]:
    return sorted(path.name for path in cache._directory.path.iterdir())


def test_an_upload_is_synced_to_the_disk_while_it_is_sent(cache: ModelCache, part: MemoryPart, disk: SlowDisk) -> None:
    with ExitStack() as upload:
        file = start_upload(cache, part, upload)
        with cache.adopting(file, part.big):
            assert disk.started.wait(SECONDS)
            disk.released.set()
    assert names(cache) == [f"{part.big.digest}.big"]
    assert part.load(cache) == CONTENT
    assert part.fetches == 0


def test_an_upload_has_no_final_name_before_its_sync_and_blocks_no_other_load(
    cache: ModelCache, part: MemoryPart, disk: SlowDisk
) -> None:
    other = memory_part("other", CONTENT)
    sent = threading.Event()

    def upload_part() -> None:
        with ExitStack() as upload:
            file = start_upload(cache, part, upload)
            with cache.adopting(file, part.big):
                sent.set()

    uploading = threading.Thread(target=upload_part)
    uploading.start()
    assert sent.wait(SECONDS)
    assert disk.started.wait(SECONDS)
    assert other.load(cache) == CONTENT
    wait_until_idle(cache)
    assert cache.status().entries == 1
    assert f"{part.big.digest}.big" not in names(cache)
    assert uploading.is_alive()
    disk.released.set()
    uploading.join(SECONDS)
    assert f"{part.big.digest}.big" in names(cache)


def test_an_upload_that_cannot_be_sent_is_removed_without_waiting_for_the_disk(
    cache: ModelCache, part: MemoryPart, disk: SlowDisk
) -> None:
    def fail() -> None:
        with ExitStack() as upload:
            file = start_upload(cache, part, upload)
            with cache.adopting(file, part.big):
                raise ApiUnreachable("It is down.")

    with pytest.raises(ApiUnreachable):
        fail()
    assert not disk.released.is_set()
    assert names(cache) == []


def test_an_upload_whose_sync_fails_is_removed_and_raises_no_error(
    cache: ModelCache, part: MemoryPart, disk: SlowDisk
) -> None:
    disk.failure = OSError(errno.EIO, "Input/output error")
    disk.released.set()
    with ExitStack() as upload:
        file = start_upload(cache, part, upload)
        with cache.adopting(file, part.big):
            pass
    assert names(cache) == []
    assert part.load(cache) == CONTENT
    assert part.fetches == 1


def test_an_upload_larger_than_the_cache_is_not_synced(tmp_path: Path, part: MemoryPart, disk: SlowDisk) -> None:
    cache = ModelCache(tmp_path / "cache", part.big.size - 1, 1)
    with ExitStack() as upload:
        file = start_upload(cache, part, upload)
        with cache.adopting(file, part.big):
            pass
    assert not disk.started.is_set()
    assert names(cache) == []


def test_an_upload_does_not_replace_a_part_in_use(cache: ModelCache, part: MemoryPart) -> None:
    part.gate = MIB
    with ExitStack() as upload:
        file = start_upload(cache, part, upload)
        with cache.adopting(file, part.big):
            loading = part.plaintext(cache)
    assert f"{part.big.digest}.big" not in names(cache)
    part.opened.set()
    assert b"".join(bytes(piece) for piece in loading) == CONTENT
    loading.close()
    wait_until_idle(cache)
    assert f"{part.big.digest}.big" in names(cache)
