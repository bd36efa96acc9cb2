"""Reading from sources that are slow, short, truncated or broken."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator

import pytest

from loader.crypto.segments import FIRST_PLAINTEXT_SIZE, HEADER_SIZE, SEGMENT_SIZE
from loader.crypto.work_ahead import READ_AHEAD
from loader.errors import CorruptCiphertext
from tests.crypto.hostile_io import EndingSource, LyingSource, RecordingSource, ShortSource
from tests.crypto.reference import ReferenceCipher, cut, pattern
from tests.crypto.streams import AD, KEY, read_all, read_to_failure, reader_of

PLAINTEXT = pattern(4 * SEGMENT_SIZE + 1000)
SEGMENTS = cut(PLAINTEXT)
CIPHERTEXT = ReferenceCipher(KEY, AD).seal(PLAINTEXT)
SMALL = ReferenceCipher(KEY, AD).seal(b"small")


@pytest.mark.parametrize("steps", [[1], [2, 1], [7], [39], [41], [56]], ids=str)
def test_a_short_source_of_a_small_ciphertext(steps: list[int]) -> None:
    assert read_all(reader_of(ShortSource(SMALL, steps), len(SMALL))) == b"small"


@pytest.mark.parametrize("steps", [[1000], [65_536], [1, SEGMENT_SIZE], [SEGMENT_SIZE - 1], [1 << 30]], ids=str)
def test_a_short_source(steps: list[int]) -> None:
    assert read_all(reader_of(ShortSource(CIPHERTEXT, steps), len(CIPHERTEXT))) == PLAINTEXT


def test_a_segment_is_released_before_the_next_is_asked_for_at_the_begin() -> None:
    source = RecordingSource(CIPHERTEXT)
    reader = reader_of(source, len(CIPHERTEXT))
    assert source.asked == []
    assert bytes(next(reader)) == SEGMENTS[0]
    assert source.asked == [SEGMENT_SIZE]


def test_a_reader_is_never_far_ahead_of_its_consumer() -> None:
    source = RecordingSource(CIPHERTEXT)
    for number, _ in enumerate(reader_of(source, len(CIPHERTEXT))):
        assert source.tell() <= (number + READ_AHEAD) * SEGMENT_SIZE


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, io.BufferedWriter]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb") as sink:
        yield source, sink


@pytest.mark.timeout(20)  # without the guarantee this would wait forever
def test_a_slow_source_delivers_its_first_segment_at_once(pipe: tuple[io.FileIO, io.BufferedWriter]) -> None:
    source, sink = pipe
    first_was_read = threading.Event()

    def write() -> None:
        with sink:
            sink.write(CIPHERTEXT[:SEGMENT_SIZE])
            sink.flush()
            first_was_read.wait()
            sink.write(CIPHERTEXT[SEGMENT_SIZE:])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    reader = reader_of(source, len(CIPHERTEXT))
    assert bytes(next(reader)) == SEGMENTS[0]
    first_was_read.set()
    assert read_all(reader) == PLAINTEXT[FIRST_PLAINTEXT_SIZE:]
    writer.join()


ENDS = {
    "before the header": (0, 0),
    "in the header": (20, 0),
    "after the header": (HEADER_SIZE, 0),
    "in the first segment": (500_000, 0),
    "after the first segment": (SEGMENT_SIZE, 1),
    "in the third segment": (2 * SEGMENT_SIZE + 1, 2),
    "in the last tag": (len(CIPHERTEXT) - 1, len(SEGMENTS) - 1),
}


@pytest.mark.parametrize(("good", "whole"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("answer", [0, None], ids=["zero", "None"])
def test_a_source_that_ends_early_is_a_cut_ciphertext(good: int, whole: int, answer: int | None) -> None:
    failed = read_to_failure(lambda: reader_of(EndingSource(CIPHERTEXT, good, answer), len(CIPHERTEXT)))
    assert isinstance(failed.failure, CorruptCiphertext)
    assert str(failed.failure) == "the ciphertext is cut short"
    assert failed.released == SEGMENTS[:whole]


@pytest.mark.parametrize(
    ("good", "whole"), [*ENDS.values(), (len(CIPHERTEXT), len(SEGMENTS) - 1)], ids=[*ENDS, "at the end"]
)
def test_a_broken_source_is_told_from_a_corrupt_ciphertext(good: int, whole: int) -> None:
    torn = ConnectionResetError("reset by peer")
    source = EndingSource(CIPHERTEXT, good, torn)
    failed = read_to_failure(lambda: reader_of(source, len(CIPHERTEXT)))
    assert failed.failure is torn
    assert source.asked_beyond == 1  # a reader that failed does not read again
    assert failed.released == SEGMENTS[:whole]


def test_a_single_segment_is_not_released_before_the_source_has_ended() -> None:
    torn = ConnectionResetError("reset by peer")
    failed = read_to_failure(lambda: reader_of(EndingSource(SMALL, len(SMALL), torn), len(SMALL)))
    assert failed.failure is torn
    assert failed.released == []


@pytest.mark.parametrize("ciphertext", [SMALL, CIPHERTEXT], ids=["one segment", "five segments"])
def test_a_source_that_claims_more_than_it_delivered_is_caught(ciphertext: bytes) -> None:
    failed = read_to_failure(lambda: reader_of(LyingSource(ciphertext), len(ciphertext)))
    assert isinstance(failed.failure, CorruptCiphertext)
    assert failed.released == []
