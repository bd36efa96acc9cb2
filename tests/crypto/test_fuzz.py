"""Fuzzed file parsers return a value that can be written and read again, or raise CorruptCiphertext.

The examples are the same in every run. The time limit of a parser counts the processor time of its own thread.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loader.crypto.archive import MAGIC as ARCHIVE
from loader.crypto.archive import ArchiveHeader, Manifest
from loader.crypto.json_header import JSON_MAX_SIZE, write_header
from loader.crypto.model_parts import MAGIC as SMALL
from loader.crypto.model_parts import SmallPart
from loader.crypto.segments import HEADER_SIZE, SegmentCipher, ciphertext_size, plaintext_size
from loader.errors import CorruptCiphertext
from tests.crypto import manifests, test_small_part
from tests.crypto.hostile_json import DEEP, changed
from tests.crypto.manifests import framed
from tests.crypto.mutations import cut, flipped, mutated, spliced
from tests.crypto.streams import AD, KEY, UNHURRIED, read_all, reader_of, seal

MIB = 1 << 20
SECONDS = 0.2
SECONDS_PER_MIB = 1.0
FUZZ = settings(UNHURRIED, derandomize=True, database=None, max_examples=800)

Parse = Callable[[bytes], None]


def accepts_in_time(parse: Parse, data: bytes) -> bool:
    """Return whether `parse` accepts `data`; fail if it is too slow or raises anything but CorruptCiphertext."""
    accepted, seconds = timed(parse, data)
    allowed = SECONDS + SECONDS_PER_MIB * len(data) / MIB
    # Measure twice before failing, because a garbage collection may slow down one measurement but not both.
    assert seconds < allowed or timed(parse, data)[1] < allowed
    return accepted


def timed(parse: Parse, data: bytes) -> tuple[bool, float]:
    """Return whether `parse` accepts `data`, and the processor time in seconds."""
    started = time.thread_time()
    try:
        parse(data)
        accepted = True
    except CorruptCiphertext:
        accepted = False
    return accepted, time.thread_time() - started


def parse_archive(data: bytes) -> None:
    header = ArchiveHeader.read(io.BytesIO(data))
    assert data.startswith(header.raw)
    written = write_header(ARCHIVE, header.manifest.document())
    assert ArchiveHeader.read(io.BytesIO(written)) == ArchiveHeader(header.manifest, written)


def parse_small(data: bytes) -> None:
    part = SmallPart.from_bytes(data)
    assert SmallPart.from_bytes(part.to_bytes()) == part


def parse_stream_header(data: bytes) -> None:
    cipher = SegmentCipher.derive(data, KEY, AD)
    assert data.endswith(cipher.nonce_prefix)
    assert (data[0], len(data)) == (HEADER_SIZE, HEADER_SIZE)


PLAIN_MANIFEST = manifests.document()
SMALL_PARTS = [test_small_part.document(4, None), test_small_part.document(3_000_000, 2_934_552)]
UNENCODABLE = framed(ARCHIVE, changed(PLAIN_MANIFEST, ("images", 0, "created"), "\ud800"))
CONTROLLING = framed(ARCHIVE, changed(PLAIN_MANIFEST, ("images", 0, "created"), "\x1b[2J"))


@FUZZ
@given(mutated(ARCHIVE, [PLAIN_MANIFEST, manifests.document(1 << 40)], [b"", b"ciphertext"]))
@example(UNENCODABLE)
@example(CONTROLLING)
@example(framed(ARCHIVE, DEEP))
def test_fuzzed_manifests_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_archive, data)


@FUZZ
@given(mutated(SMALL, SMALL_PARTS, [b"", bytes(60), bytes(65_536)]))
@example(framed(SMALL, DEEP))
def test_fuzzed_small_parts_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_small, data)


@FUZZ
@given(st.binary(max_size=2 * HEADER_SIZE) | st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
@example(bytes([HEADER_SIZE]) * HEADER_SIZE)
def test_fuzzed_stream_headers_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_stream_header, data)


STREAMS = [seal(b""), seal(b"x" * 5), seal(bytes(range(250)))]
PLAINTEXTS = [b"", b"x" * 5, bytes(range(250))]


@FUZZ
@given(
    st.sampled_from(STREAMS).flatmap(flipped)
    | st.sampled_from(STREAMS).flatmap(cut)
    | spliced(st.sampled_from(STREAMS))
    | st.binary(max_size=400)
)
def test_fuzzed_streams_are_read_or_refused_in_time(data: bytes) -> None:
    """Every stream that is read gives one of the plaintexts as a whole, because a fuzzer cannot make a tag."""

    def parse(ciphertext: bytes) -> None:
        assert read_all(reader_of(io.BytesIO(ciphertext), len(ciphertext))) in PLAINTEXTS
        assert ciphertext in STREAMS

    accepts_in_time(parse, data)


@FUZZ
@given(st.integers(-(1 << 70), 1 << 70) | st.integers(-2, 4 * MIB))
def test_any_size_has_a_plaintext_size_or_is_refused(size: int) -> None:
    try:
        assert ciphertext_size(plaintext_size(size)) == size
    except CorruptCiphertext:
        return


def test_valid_inputs_are_accepted() -> None:
    """The counterpart of all tests above, because a parser that refuses everything would pass them."""
    assert accepts_in_time(parse_archive, framed(ARCHIVE, PLAIN_MANIFEST) + b"rest")
    assert accepts_in_time(parse_small, test_small_part.small_object(SMALL_PARTS[0], 60))
    assert accepts_in_time(parse_small, test_small_part.small_object(SMALL_PARTS[1], 65_536))
    assert all(accepts_in_time(parse_stream_header, stream[:HEADER_SIZE]) for stream in STREAMS)


@pytest.mark.parametrize("data", [UNENCODABLE, CONTROLLING], ids=["a lone surrogate", "an escape sequence"])
def test_a_time_of_creation_that_cannot_be_printed_is_refused(data: bytes) -> None:
    """An earlier parser accepted it; writing or printing it then failed, or sent control codes to a terminal."""
    assert not accepts_in_time(parse_archive, data)


def filled(begin: bytes, piece: bytes, end: bytes) -> bytes:
    """Return a body of the largest size that the format allows, or a little less."""
    return begin + piece * ((JSON_MAX_SIZE - len(begin) - len(end)) // len(piece)) + end


LARGEST: dict[str, bytes] = {
    "digits": filled(b'{"tar_size":', b"9", b"}"),
    "a fraction": filled(b'{"tar_size":0.', b"9", b"}"),
    "an exponent": filled(b'{"tar_size":1e', b"9", b"}"),
    "one string": filled(b'{"key_check":"', b"a", b'"}'),
    "escapes": filled(b'{"created":"', b"\\ud800", b'"}'),
    "lists side by side": filled(b'{"images":[', b"[],", b"[]]}"),
    "lists in each other": filled(b"", b"[", b""),
    "objects in each other": filled(b"", b'{"a":', b""),
    "one field many times": filled(b"{", b'"a":1,', b'"a":1}'),
    "spaces": filled(b"", b" ", b"{}"),
    "a string without an end": filled(b'{"', b"\\", b""),
    "bytes that are not UTF-8": filled(b'{"', b"\xff", b'"}'),
}


@pytest.mark.parametrize("body", LARGEST.values(), ids=LARGEST)
@pytest.mark.parametrize(("magic", "parse"), [(ARCHIVE, parse_archive), (SMALL, parse_small)], ids=["archive", "small"])
def test_the_largest_headers_are_refused_in_time(magic: bytes, parse: Parse, body: bytes) -> None:
    assert not accepts_in_time(parse, framed(magic, body))


WITHIN_FIELDS: list[tuple[bytes, Parse, dict[str, Any]]] = [
    (ARCHIVE, parse_archive, {**PLAIN_MANIFEST, "created": "2026-03-01T12:00:00." + "0" * 1_000_000}),
    (ARCHIVE, parse_archive, {**PLAIN_MANIFEST, "key_check": "0" * 1_000_000}),
    (ARCHIVE, parse_archive, {**PLAIN_MANIFEST, "images": PLAIN_MANIFEST["images"] * 2_000}),
    (SMALL, parse_small, {**SMALL_PARTS[0], "key": "A" * 1_000_000}),
    (SMALL, parse_small, {**SMALL_PARTS[0], "key": "=" * 1_000_000}),
]


@pytest.mark.parametrize(("magic", "parse", "document"), WITHIN_FIELDS)
def test_the_largest_fields_are_refused_in_time(magic: bytes, parse: Parse, document: dict[str, Any]) -> None:
    assert not accepts_in_time(parse, framed(magic, document))


def test_an_archive_of_many_images_is_read_in_time() -> None:
    image = PLAIN_MANIFEST["images"][1]
    images = [image | {"reference": f"azaion/{number}:1"} for number in range(6_000)]
    raw = framed(ARCHIVE, {**PLAIN_MANIFEST, "images": images})
    assert len(raw) > MIB // 2
    assert accepts_in_time(parse_archive, raw)
    assert len(Manifest.parse({**PLAIN_MANIFEST, "images": images}).images) == len(images)
