"""Fuzzed file parsers return a value that can be written and read again, or raise CorruptCiphertext.

The examples are the same in every run. The time limit of a parser counts the processor time of its own thread.
"""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loader.crypto.archive import MAGIC as ARCHIVE
from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.archive_head import Head, StoredHead
from loader.crypto.archive_seals import Seals
from loader.crypto.json_header import JSON_MAX_SIZE, SEALS_MAX_SIZE, read_json
from loader.crypto.model_parts import MAGIC as SMALL
from loader.crypto.model_parts import SmallPart
from loader.crypto.segments import HEADER_SIZE, SegmentCipher, ciphertext_size, plaintext_size
from loader.errors import CorruptCiphertext
from tests.crypto import archive_vectors, heads, reference_archive, test_archive_limits, test_small_part
from tests.crypto.framing import framed
from tests.crypto.hostile_json import DEEP, changed, damaged
from tests.crypto.mutations import cut, flipped, mutated, spliced
from tests.crypto.reference_archive import ReferenceBlob, ReferenceImage, archive_of, stored_gzip
from tests.crypto.reference_model import seals_document, small_object
from tests.crypto.streams import AD, KEY, UNHURRIED, read_all, reader_of, seal

MIB = 1 << 20
SECONDS = 0.2
SECONDS_PER_MIB = 5.0
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


def parse_head(data: bytes) -> None:
    document, raw = read_json(io.BytesIO(data).read, JSON_MAX_SIZE)
    assert data.startswith(raw)
    head = Head.parse(document)
    assert json.loads(json.dumps(head.document())) == document
    written = StoredHead.of(head)
    assert StoredHead.of(written.head) == written
    assert written.head == head


def parse_seals(data: bytes) -> None:
    document, _ = read_json(io.BytesIO(data).read, SEALS_MAX_SIZE)
    seals = Seals.parse(document)
    document, _ = read_json(io.BytesIO(seals.to_bytes()).read, SEALS_MAX_SIZE)
    assert Seals.parse(document) == seals


def parse_archive(data: bytes) -> None:
    index = ArchiveIndex.read(io.BytesIO(data), len(data))
    assert index.size == len(data)
    present = [blob for blob in index.head.blobs if blob.digest in index.offsets]
    start = archive_start(index.stored, index.seals, present)
    assert index.stored.raw in data
    again = start + bytes(sum(blob.stored_size for blob in present))
    assert ArchiveIndex.read(io.BytesIO(again), len(again)).head == index.head


def parse_small(data: bytes) -> None:
    part = SmallPart.from_bytes(data)
    assert SmallPart.from_bytes(part.to_bytes()) == part


def parse_stream_header(data: bytes) -> None:
    cipher = SegmentCipher.derive(data, KEY, AD)
    assert data.endswith(cipher.nonce_prefix)
    assert (data[0], len(data)) == (HEADER_SIZE, HEADER_SIZE)


HEAD = heads.document()
HEADS = [HEAD, heads.head_of_one(0), heads.head_of_one(3)]
SMALL_PARTS = [test_small_part.document(4, None), test_small_part.document(3_000_000, 2_934_552)]
UNSIGNED = framed(b"", seals_document())
UNENCODABLE = framed(b"", changed(HEAD, ("images", 0, "created"), "\ud800"))
CONTROLLING = framed(b"", changed(HEAD, ("images", 0, "created"), "\x1b[2J"))
SIGNED = reference_archive.seals_of(framed(b"", HEAD)) | {
    "signatures": [{"key": "A" * 43 + "=", "signature": "A" * 86 + "=="}]
}
IMAGE = ReferenceImage("a.b/c:1", (ReferenceBlob(b"layer"), ReferenceBlob(b"x", stored_gzip(b"x"))))
ARCHIVES = [archive_of([IMAGE]), archive_vectors.thin([])]


@FUZZ
@given(mutated(b"", HEADS, [b"", b"seals"]))
@example(UNENCODABLE)
@example(CONTROLLING)
@example(framed(b"", DEEP))
def test_fuzzed_heads_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_head, data)


@FUZZ
@given(mutated(b"", [SIGNED, SIGNED | {"signatures": []}], [b"", b"present"]))
@example(framed(b"", DEEP))
def test_fuzzed_seals_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_seals, data)


@FUZZ
@given(
    st.sampled_from(ARCHIVES).flatmap(flipped)
    | st.sampled_from(ARCHIVES).flatmap(cut)
    | st.sampled_from(ARCHIVES).flatmap(damaged)
    | spliced(st.sampled_from(ARCHIVES))
    | st.binary(max_size=400).map(ARCHIVE.__add__)
)
def test_fuzzed_archives_are_read_or_refused_in_time(data: bytes) -> None:
    accepts_in_time(parse_archive, data)


@FUZZ
@given(mutated(SMALL, SMALL_PARTS, [b"", UNSIGNED + bytes(60), UNSIGNED + bytes(65_536)]))
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
    assert all(accepts_in_time(parse_head, framed(b"", head) + b"rest") for head in HEADS)
    assert accepts_in_time(parse_seals, framed(b"", SIGNED))
    assert all(accepts_in_time(parse_archive, archive) for archive in ARCHIVES)
    assert accepts_in_time(parse_small, small_object(SMALL_PARTS[0], bytes(60)))
    assert accepts_in_time(parse_small, small_object(SMALL_PARTS[1], bytes(65_536)))
    assert all(accepts_in_time(parse_stream_header, stream[:HEADER_SIZE]) for stream in STREAMS)


@pytest.mark.parametrize("data", [UNENCODABLE, CONTROLLING], ids=["a lone surrogate", "an escape sequence"])
def test_a_time_of_creation_that_cannot_be_printed_is_refused(data: bytes) -> None:
    """An earlier parser accepted it; writing or printing it then failed, or sent control codes to a terminal."""
    assert not accepts_in_time(parse_head, data)


def filled(begin: bytes, piece: bytes, end: bytes) -> bytes:
    """Return a body of the largest size that the format allows, or a little less."""
    return begin + piece * ((JSON_MAX_SIZE - len(begin) - len(end)) // len(piece)) + end


LARGEST: dict[str, bytes] = {
    "digits": filled(b'{"format":', b"9", b"}"),
    "a fraction": filled(b'{"format":0.', b"9", b"}"),
    "an exponent": filled(b'{"format":1e', b"9", b"}"),
    "one string": filled(b'{"root_id":"', b"a", b'"}'),
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
@pytest.mark.parametrize(
    ("magic", "parse"),
    [(b"", parse_head), (b"", parse_seals), (ARCHIVE, parse_archive), (SMALL, parse_small)],
    ids=["head", "seals", "archive", "small"],
)
def test_the_largest_headers_are_refused_in_time(magic: bytes, parse: Parse, body: bytes) -> None:
    assert not accepts_in_time(parse, framed(magic, body))


LONG = "a" * 1_000_000
LONG_REFERENCES = [
    *(LONG, "a." * 450_000, "a.b/" + "c/" * 450_000 + "c:1", "A.B/" + "C/" * 450_000 + "C:1"),
    *(f"a.b/{text * (900_000 // len(text))}:1" for text in ("a-", "a__", "a.b_", "-", "_", "a")),
    *(f"{text * (900_000 // len(text))}/a:1" for text in ("a-", "-a", "a.", "[::", ":5", "-")),
]


def with_image(field: str, value: object) -> dict[str, Any]:
    return changed(HEAD, ("images", 0, field), value)


WITHIN_FIELDS: list[tuple[bytes, Parse, dict[str, Any]]] = [
    (b"", parse_head, changed(HEAD, ("release", "created"), "2026-03-01T12:00:00." + "0" * 1_000_000)),
    (b"", parse_head, changed(HEAD, ("release", "version"), LONG)),
    (b"", parse_head, changed(HEAD, ("root_id",), "0" * 1_000_000)),
    *((b"", parse_head, with_image("reference", value)) for value in LONG_REFERENCES),
    *((b"", parse_head, with_image("platform", value)) for value in (LONG, f"linux/{LONG}", "a/" * 500_000)),
    (b"", parse_head, with_image("created", LONG)),
    (b"", parse_head, with_image("layers", [heads.digest("a")] * 12_000)),
    (b"", parse_head, changed(HEAD, ("images",), HEAD["images"] * 800)),
    (b"", parse_head, changed(HEAD, ("blobs",), HEAD["blobs"] * 400)),
    (b"", parse_seals, changed(SIGNED, ("key", "root"), "A" * 60_000)),
    (b"", parse_seals, changed(SIGNED, ("signatures",), SIGNED["signatures"] * 300)),
    (SMALL, parse_small, {**SMALL_PARTS[0], "key": "A" * 1_000_000}),
    (SMALL, parse_small, {**SMALL_PARTS[0], "key": "=" * 1_000_000}),
    (SMALL, parse_small, {**SMALL_PARTS[0], "created": "2026-03-01T12:00:00." + "0" * 1_000_000}),
    (SMALL, parse_small, changed(SMALL_PARTS[1], ("big", "object"), "0" * 1_000_000)),
]


@pytest.mark.parametrize(("magic", "parse", "document"), WITHIN_FIELDS)
def test_the_largest_fields_are_refused_in_time(magic: bytes, parse: Parse, document: dict[str, Any]) -> None:
    assert not accepts_in_time(parse, framed(magic, document))


def test_a_head_of_many_blobs_is_read_in_time() -> None:
    raw = framed(b"", test_archive_limits.blobs(2400))
    assert len(raw) > MIB * 3 // 4
    assert accepts_in_time(parse_head, raw)


@FUZZ
@given(mutated(b"", HEADS, [b""]), st.integers(0, (1 << 32) - 1))
def test_a_parser_allocates_no_more_than_a_few_times_what_it_reads(data: bytes, announced: int) -> None:
    """Whatever the length fields announce."""
    bold = ARCHIVE + announced.to_bytes(4, "big") + data
    tracemalloc.start()
    try:
        timed(parse_archive, bold)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB
