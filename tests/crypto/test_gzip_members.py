"""The codec gzip: members that every gunzip reads, and a reader of any gzip that holds exactly what was announced."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.gzip_members import FIRST_INPUT, OUTPUT_SIZE, GzipReader, compress, decompress
from loader.crypto.pieces import PIECE_SIZE
from loader.errors import CorruptCiphertext
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import stored_gzip
from tests.crypto.streams import UNHURRIED, collect

MIB = 1 << 20
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7]
SECONDS_PER_MIB = 5.0


def packed(*pieces: bytes) -> bytes:
    return b"".join(compress(pieces))


def unpacked(data: bytes, size: int, step: int = 1 << 20) -> bytes:
    """Return the content of `data`, which comes in pieces of `step` bytes."""
    return b"".join(decompress((data[begin : begin + step] for begin in range(0, len(data), step)), size))


def text(size: int) -> bytes:
    """Return content that gzip makes much smaller."""
    return b"".join(b"%d, " % number for number in range(size // 3 + 1))[:size]


@pytest.mark.parametrize("make", [bytes, pattern, text], ids=["zeros", "noise", "text"])
@pytest.mark.parametrize("size", SIZES)
def test_every_gunzip_reads_the_members(size: int, make: Callable[[int], bytes]) -> None:
    content = make(size)
    data = packed(content)
    assert gzip.decompress(data) == content
    assert unpacked(data, size) == content
    assert subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout == content


@pytest.mark.parametrize("size", SIZES)
def test_each_member_holds_a_mebibyte(size: int) -> None:
    members = list(compress([pattern(size)]))
    assert [len(gzip.decompress(member)) for member in members] == [
        *[PIECE_SIZE] * (size // MIB),
        *([size % MIB] if size % MIB or not size else []),
    ]


@settings(UNHURRIED, max_examples=25)
@given(st.integers(0, 2 * MIB + 10), st.lists(st.integers(0, MIB + 10) | st.integers(0, 10), max_size=6))
def test_the_sizes_of_the_pieces_do_not_change_the_result(size: int, cuts: list[int]) -> None:
    content = text(size)
    stream = io.BytesIO(content)
    pieces = [*(stream.read(cut) for cut in cuts), stream.read()]
    data = packed(*pieces)
    assert data == packed(content)
    assert unpacked(data, size) == content


def test_a_source_may_fill_the_same_buffer_again() -> None:
    buffer = bytearray(300_000)

    def refilled() -> Iterable[bytearray]:
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            yield buffer

    expected = b"".join(bytes([number]) * len(buffer) for number in range(20))
    assert unpacked(b"".join(compress(refilled())), len(expected)) == expected


def test_an_exception_of_the_content_passes_through() -> None:
    def failing() -> Iterable[bytes]:
        yield pattern(3 * MIB)
        raise OSError("the engine is gone")

    with pytest.raises(OSError, match="the engine is gone"):
        list(compress(failing()))


def with_fields(content: bytes) -> bytes:
    """Return a member whose header has every optional field of RFC 1952, section 2.3.1, and their check sum."""
    header = bytes.fromhex("1f8b081f0000000000ff") + struct.pack("<H", 4) + b"AB\0\0" + b"name\0" + b"comment\0"
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    return header + stored_gzip(content)[10:]


TEXT = text(6_000)
FOREIGN = {
    "one stream": gzip.compress(TEXT),
    "one stream of the best level": gzip.compress(TEXT, 9),
    "one stream without compression": gzip.compress(TEXT, 0),
    "many members": b"".join(gzip.compress(TEXT[begin : begin + 1000]) for begin in range(0, len(TEXT), 1000)),
    "members of one byte": b"".join(gzip.compress(TEXT[begin : begin + 1]) for begin in range(len(TEXT))),
    "empty members between": gzip.compress(b"") + gzip.compress(TEXT) + gzip.compress(b"") * 3,
    "every field": with_fields(TEXT),
    "every field in two members": with_fields(TEXT[:10]) + with_fields(TEXT[10:]),
}


@pytest.mark.parametrize("step", [1, 7, 65_536, MIB])
@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_gzip_of_any_maker_is_read(data: bytes, step: int) -> None:
    assert gzip.decompress(data) == TEXT
    assert unpacked(data, len(TEXT), step) == TEXT


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(("difference", "reason"), [(-1, "more than it announces"), (1, "less than it announces")])
def test_gzip_of_another_size_is_refused(data: bytes, difference: int, reason: str) -> None:
    released = bytearray()
    with pytest.raises(CorruptCiphertext, match=reason):
        collect(decompress([data], len(TEXT) + difference), released)
    assert len(released) <= len(TEXT) + difference
    assert TEXT.startswith(released)


@pytest.mark.parametrize("data", [packed(b""), packed(b"abc"), with_fields(b"abc"), gzip.compress(b"ab") * 2], ids=len)
def test_gzip_cut_anywhere_is_refused(data: bytes) -> None:
    size = len(gzip.decompress(data))
    ends = {len(data)} | ({len(data) // 2} if size == 4 else set())
    for kept in range(len(data)):
        with pytest.raises(CorruptCiphertext, match="holds less" if kept in ends else "cut short"):
            unpacked(data[:kept], size)


DAMAGED = {
    "no gzip": b"no gzip at all",
    "zlib instead": zlib.compress(b"abc"),
    "another method": b"\x1f\x8b\x07" + packed(b"abc")[3:],
    "another check sum": packed(b"abc")[:-8] + b"\0\0\0\0" + packed(b"abc")[-4:],
    "another size": packed(b"abc")[:-4] + b"\4\0\0\0",
    "bytes behind": packed(b"abc") + b"more",
    "zeros behind": packed(b"abc") + bytes(512),
    "a zero behind": packed(b"abc") + b"\0",
    "half a member behind": packed(b"abc") + packed(b"")[:10],
}


@pytest.mark.parametrize("step", [1, MIB])
@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_gzip_is_refused(data: bytes, step: int) -> None:
    with pytest.raises(CorruptCiphertext, match=r"gzip is (damaged|cut short)"):
        unpacked(data, 3, step)


@pytest.mark.parametrize("step", [1 << 10, MIB])
@pytest.mark.parametrize("size", [OUTPUT_SIZE - 1, OUTPUT_SIZE, OUTPUT_SIZE + 1, 2 * OUTPUT_SIZE, 16 * OUTPUT_SIZE])
def test_content_that_zlib_holds_back_comes_out(size: int, step: int) -> None:
    """A few bytes of input make many outputs, and zlib may take all input before it has filled the last output."""
    data = gzip.compress(bytes(size))
    pieces = list(decompress((data[begin : begin + step] for begin in range(0, len(data), step)), size))
    assert sum(map(len, pieces)) == size
    assert max(map(len, pieces)) <= OUTPUT_SIZE


def test_all_content_of_what_has_arrived_comes_out() -> None:
    """Also where the input ends within a match that does not fit into the output."""
    data = gzip.compress(bytes(2 * OUTPUT_SIZE))
    held_back = 0
    for kept in range(len(data) // 2 - 12, len(data) // 2 + 12):
        content = zlib.decompressobj(31).decompress(data[:kept])
        limited = zlib.decompressobj(31)
        held_back += len(limited.decompress(data[:kept], OUTPUT_SIZE)) < len(content) and not limited.unconsumed_tail
        assert b"".join(GzipReader(2 * OUTPUT_SIZE).feed(data[:kept])) == content
    assert held_back


@pytest.mark.parametrize("beside", [-2, -1, 0, 1, 8])
def test_the_end_of_a_full_output_may_come_in_a_piece_of_its_own(beside: int) -> None:
    data = gzip.compress(pattern(OUTPUT_SIZE), 1)
    at = len(data) - 8 + min(beside, 7)
    reader = GzipReader(OUTPUT_SIZE)
    content = b"".join([*reader.feed(data[:at]), *reader.feed(data[at:])])
    reader.end()
    assert content == pattern(OUTPUT_SIZE)


def test_a_bomb_releases_no_more_than_was_announced() -> None:
    bomb, released = gzip.compress(bytes(64 * MIB), 9), bytearray()
    with pytest.raises(CorruptCiphertext, match="holds more than it announces"):
        collect(decompress([bomb], 3 * MIB), released)
    assert len(released) == 3 * MIB


def test_the_same_content_gives_the_same_bytes() -> None:
    content = text(2 * MIB)
    assert len({packed(content), packed(content[:10], content[10:]), packed(content)}) == 1
    assert packed(b"x")[4:8] == bytes(4), "no time stands in the header"


def test_small_members_are_read_in_time() -> None:
    """As some builders pack a layer file by file."""
    members, count = gzip.compress(pattern(500)), MIB // 523
    started = time.thread_time()
    assert unpacked(members * count, 500 * count) == pattern(500) * count
    assert time.thread_time() - started < SECONDS_PER_MIB


class CountedInflater:
    """A `zlib.decompressobj` that counts the bytes of input that zlib copies, because it leaves them."""

    copied = 0

    def __init__(self, wbits: int) -> None:
        self._inflater = INFLATER(wbits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = self._inflater.decompress(data, max_length)
        CountedInflater.copied += len(self._inflater.unused_data) + len(self._inflater.unconsumed_tail)
        return content

    def __getattr__(self, name: str) -> object:
        return getattr(self._inflater, name)


INFLATER = zlib.decompressobj
MIXED = gzip.compress(pattern(30_000)) + gzip.compress(b"") * 200


@pytest.mark.parametrize("step", [1000, MIB, 2 * MIB])
@pytest.mark.parametrize(
    "member", [gzip.compress(b""), gzip.compress(b"x" * 99), gzip.compress(pattern(500)), MIXED], ids=len
)
def test_reading_small_members_copies_no_more_in_large_pieces(
    member: bytes, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * MIB // len(member)
    size = len(gzip.decompress(member)) * count
    monkeypatch.setattr(zlib, "decompressobj", CountedInflater)
    monkeypatch.setattr(CountedInflater, "copied", 0)
    assert len(unpacked(member * count, size, step)) == size
    members = count * (201 if member == MIXED else 1)
    assert CountedInflater.copied <= members * FIRST_INPUT + 8 * len(member) * count


def padded(data: bytes, step: int) -> bytes:
    reader = GzipReader(MIB, padded=True)
    pieces = (data[begin : begin + step] for begin in range(0, len(data), step))
    content = b"".join(content for piece in pieces for content in reader.feed(piece))
    reader.end()
    return content


@pytest.mark.parametrize("step", [1, 512, MIB])
@pytest.mark.parametrize("zeros", [1, 2, 511, 10_240, 3 * MIB // 512])
def test_zeros_behind_the_last_member_are_left_out_where_they_are_allowed(zeros: int, step: int) -> None:
    assert padded(gzip.compress(b"ab") * 2 + bytes(zeros), step) == b"abab"
    for behind in (b"x", gzip.compress(b"c"), b"\x1f"):
        with pytest.raises(CorruptCiphertext, match="bytes follow the zeros"):
            padded(gzip.compress(b"ab") + bytes(zeros) + behind, step)
    with pytest.raises(CorruptCiphertext, match="gzip is damaged"):
        padded(bytes(zeros) + gzip.compress(b"ab"), step)


@settings(UNHURRIED, max_examples=200)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda content: gzip.compress(content) * 2), st.data())
def test_any_bytes_are_gzip_or_corrupt(data: bytes, draw: st.DataObject) -> None:
    size = draw.draw(st.integers(0, 200))
    try:
        content = unpacked(data, size, draw.draw(st.integers(1, 50)))
    except CorruptCiphertext:
        return
    assert content == gzip.decompress(data)
    assert len(content) == size
