"""Spans of a plaintext: the right bytes, out of the segments that have them and no others."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from loader.crypto.model_parts import HEAD_SIZE, ResourceName
from loader.crypto.segments import FIRST_PLAINTEXT_SIZE, PLAINTEXT_SIZE, SEGMENT_SIZE
from loader.errors import ResourceCorrupt
from loader.resources import Model, Plaintext, Span, whole
from tests.support.flips import flipped
from tests.support.publishers import ANNA
from tests.support.sealed_objects import seal_resource

NAME = ResourceName("day", "m.onnx")
SIZE = FIRST_PLAINTEXT_SIZE + 3 * PLAINTEXT_SIZE + 1000
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)
SEGMENT_BEGINS = [0, *(FIRST_PLAINTEXT_SIZE + number * PLAINTEXT_SIZE for number in range(4)), SIZE]
EDGES = sorted({edge + step for edge in SEGMENT_BEGINS for step in (-1, 0, 1) if 0 <= edge + step <= SIZE} | {70_000})


class CountingSource(io.BytesIO):
    """A big part in memory that notes which bytes of it were read, and was never damaged."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.lowest, self.highest = len(data), 0

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # only views are read into
        begin = self.tell()
        count = super().readinto(buffer)
        if count:
            self.lowest, self.highest = min(self.lowest, begin), max(self.highest, begin + count)
        return count

    def repair(self, _begin: int, _end: int) -> None:
        """Bring the same bytes, because these are what the API has."""


@pytest.fixture(scope="module")
def sealed() -> tuple[Model, bytes]:
    """A model of five segments and its big part."""
    big = io.BytesIO()
    return Model(NAME, seal_resource([CONTENT[:SIZE]], NAME, big)), big.getvalue()


def read(model: Model, source: CountingSource | None, span: Span | None) -> bytes:
    plaintext = Plaintext(model, source, span, lambda: None, set())
    content = b"".join(plaintext)
    assert plaintext.sent == plaintext.size == len(content)
    return content


@pytest.mark.parametrize("begin", EDGES[:-1])
def test_a_span_is_read_from_its_own_segments(sealed: tuple[Model, bytes], begin: int) -> None:
    model, big = sealed
    for end in (edge for edge in EDGES if edge > begin):
        source = CountingSource(big)
        assert read(model, source, Span(begin, end)) == CONTENT[begin:end], end
        first, last = (sum(edge <= at for edge in SEGMENT_BEGINS) - 1 for at in (begin, end - 1))
        assert source.lowest == max(0, first * SEGMENT_SIZE - HEAD_SIZE)
        assert source.highest == min(len(big), (last + 1) * SEGMENT_SIZE - HEAD_SIZE)


def test_without_a_span_nothing_is_read(sealed: tuple[Model, bytes]) -> None:
    source = CountingSource(sealed[1])
    assert read(sealed[0], source, None) == b""
    assert source.highest == 0


def test_an_empty_model_is_authenticated() -> None:
    empty = seal_resource([], NAME, io.BytesIO())
    assert read(Model(NAME, empty), None, whole(Model(NAME, empty))) == b""
    forged = Model(NAME, replace(empty, head=flipped(empty.head, -1)))
    with pytest.raises(ResourceCorrupt):
        read(forged, None, whole(forged))


@pytest.mark.parametrize("segment", range(5))
def test_damage_counts_only_within_the_span(sealed: tuple[Model, bytes], segment: int) -> None:
    model, big = sealed
    damaged = flipped(big, max(0, segment * SEGMENT_SIZE - HEAD_SIZE) + 10)
    for number in range(5):
        span = Span(SEGMENT_BEGINS[number] + 5, SEGMENT_BEGINS[number] + 500)
        source = CountingSource(damaged)
        if number == segment:
            with pytest.raises(ResourceCorrupt, match=f"segment {number} does not authenticate"):
                read(model, source, span)
        else:
            assert read(model, source, span) == CONTENT[span.begin : span.end]


def test_the_identity_changes_with_each_upload_and_not_with_its_signatures(sealed: tuple[Model, bytes]) -> None:
    small = sealed[0].small
    signed = replace(small, signatures=(ANNA.sign(small.named(NAME)),))
    assert signed.identity == small.identity
    again = seal_resource([CONTENT[:SIZE]], NAME, io.BytesIO())
    changed = replace(small, header=flipped(small.header, -1))
    assert len({small.identity, again.identity, changed.identity}) == 3
