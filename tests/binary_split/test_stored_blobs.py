"""The stored bytes of blobs, hashed ahead of the key."""

from __future__ import annotations

import os
import threading
from contextlib import closing

import pytest

from loader.binary_split import Archive
from loader.errors import CorruptCiphertext, Interrupted
from tests.support.processes import poll

WAIT_SECONDS = 20.0


def nothing(*_: object) -> None:
    pass


def all_digests(archive: Archive) -> list[str]:
    return [blob.digest for blob in archive.head.blobs]


def test_the_digests_of_all_blobs_are_those_of_the_head(opened: Archive) -> None:
    read: list[int] = []
    with closing(opened.digests_ahead(all_digests(opened), nothing)) as ahead:
        made = dict(ahead.results(read.append))
    assert {digest: digests.hex() for digest, digests in made.items()} == {
        blob.digest: blob.stored for blob in opened.head.blobs
    }
    assert read == sorted(read)
    assert read[-1] == sum(blob.stored_size for blob in opened.head.blobs)


def test_the_reading_needs_nobody_who_waits_for_it(opened: Archive) -> None:
    pieces = threading.Semaphore(0)
    with closing(opened.digests_ahead(all_digests(opened), pieces.release)):
        count = sum(-(-blob.stored_size // (1 << 20)) for blob in opened.head.blobs)
        assert all(pieces.acquire(timeout=WAIT_SECONDS) for _ in range(count))


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_what_the_checkpoint_raises_is_raised_at_the_result(opened: Archive, calls: int) -> None:
    left = iter(range(calls))

    def checkpoint() -> None:
        if next(left, None) is None:
            raise Interrupted("told to stop")

    with closing(opened.digests_ahead(all_digests(opened), checkpoint)) as ahead, pytest.raises(Interrupted):
        list(ahead.results(nothing))


def test_a_file_that_becomes_shorter_is_corrupt(opened: Archive) -> None:
    os.truncate(opened.path, opened.path.stat().st_size - 1)
    with closing(opened.digests_ahead(all_digests(opened), nothing)) as ahead:
        made = dict(ahead.results(nothing))
        with pytest.raises(CorruptCiphertext, match="cut short while it was read"):
            made[opened.head.blobs[-1].digest].hex()


def test_a_reading_that_is_closed_ends_after_its_piece_and_gives_no_digest(opened: Archive) -> None:
    asked, may_go_on = threading.Event(), threading.Event()

    def checkpoint() -> None:
        asked.set()
        assert may_go_on.wait(WAIT_SECONDS)

    before = threading.active_count()
    ahead = opened.digests_ahead(all_digests(opened), checkpoint)
    assert asked.wait(WAIT_SECONDS)
    closes = threading.Thread(target=ahead.close)
    closes.start()
    may_go_on.set()
    closes.join(WAIT_SECONDS)
    poll(lambda: threading.active_count() <= before, WAIT_SECONDS, "its thread has ended")
    with pytest.raises(RuntimeError):
        list(ahead.results(nothing))
