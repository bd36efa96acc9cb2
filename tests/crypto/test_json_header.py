"""JSON in the file formats: its exact bytes, and the refusal of everything else."""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.crypto.json_header import (
    exactly,
    is_integer,
    is_size,
    is_text,
    parse_base64,
    read_header,
    read_json,
    require,
    write_header,
    write_json,
)
from loader.errors import CorruptCiphertext
from tests.crypto.framing import framed
from tests.crypto.hostile_json import DEEP, JSON_VALUES, NO_SIZES
from tests.crypto.streams import UNHURRIED

MAGIC = b"AZSMALL2"
MAX = 1_048_576


def read(data: bytes) -> tuple[dict[str, Any], bytes]:
    return read_header(MAGIC, io.BytesIO(data).read)


def test_a_header_has_exactly_the_documented_bytes() -> None:
    assert write_header(MAGIC, {"a": 1, "b": "é"}) == b'AZSMALL2\x00\x00\x00\x10{"a":1,"b":"\xc3\xa9"}'


def test_a_header_is_read_and_nothing_behind_it() -> None:
    header = b'AZSMALL2\x00\x00\x00\x0c{ "a" : [ ]}'
    stream = io.BytesIO(header + b"ciphertext")
    assert read_header(MAGIC, stream.read) == ({"a": []}, header)
    assert stream.read() == b"ciphertext"


@UNHURRIED
@given(st.dictionaries(st.text(), JSON_VALUES))
def test_a_written_header_is_read_back(document: dict[str, Any]) -> None:
    raw = write_header(MAGIC, document)
    assert read(raw) == (document, raw)


def padded(size: int) -> bytes:
    """Return JSON of exactly `size` bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


def test_a_header_of_the_largest_size_is_written_and_read() -> None:
    assert read(framed(MAGIC, padded(MAX)))[0] == {"a": "x" * (MAX - 8)}
    assert len(write_header(MAGIC, {"a": "x" * (MAX - 8)})) == MAX + 12


def test_a_larger_header_is_not_written() -> None:
    with pytest.raises(ValueError, match="1048577"):
        write_header(MAGIC, {"a": "x" * (MAX - 7)})


REFUSED = {
    "nothing": b"",
    "half a magic": b"AZSM",
    "magic alone": MAGIC,
    "half a length": MAGIC + b"\0\0",
    "other magic": framed(b"AZIMAGE2", b"{}"),
    "magic of another version": framed(b"AZSMALL3", b"{}"),
    "magic in lower case": framed(b"azsmall1", b"{}"),
    "N = 0": framed(MAGIC, b"", 0),
    "N = 0 and a body": framed(MAGIC, b"{}", 0),
    "1 MiB + 1": framed(MAGIC, padded(MAX + 1)),
    "N = 4 GiB - 1": framed(MAGIC, b"{}", 0xFFFF_FFFF),
    "length in little endian": MAGIC + b"\x02\0\0\0{}",
    "cut before the body": framed(MAGIC, b"", 2),
    "cut in the body": framed(MAGIC, b'{"a":', 6),
    "N one too small": framed(MAGIC, b"{}", 1),
    "N one too large": framed(MAGIC, b"{}", 3),
    "not UTF-8": framed(MAGIC, b'{"a": "\xff"}'),
    "UTF-16": framed(MAGIC, '{"a": 1}'.encode("utf-16")),
    "a byte order mark": framed(MAGIC, b'\xef\xbb\xbf{"a": 1}'),
    "a surrogate in UTF-8": framed(MAGIC, b'{"a": "\xed\xa0\x80"}'),
    "not JSON": framed(MAGIC, b"{a: 1}"),
    "more than one document": framed(MAGIC, b"{}{}"),
    "a zero byte at the end": framed(MAGIC, b"{}\0"),
    "nested a thousandfold": framed(MAGIC, DEEP),
    "a number of 5000 digits": framed(MAGIC, b'{"a": ' + b"9" * 5000 + b"}"),
    "a field twice": framed(MAGIC, b'{"a": 1, "a": 2}'),
    "a list": framed(MAGIC, b"[]"),
    "a string": framed(MAGIC, b'"{}"'),
    "a number": framed(MAGIC, b"1"),
    "null": framed(MAGIC, b"null"),
    "true": framed(MAGIC, b"true"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_any_other_header_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptCiphertext):
        read(data)


@pytest.mark.parametrize("announced", [MAX + 1, 0xFFFF_FFFF])
def test_a_body_longer_than_the_limit_is_not_read(announced: int) -> None:
    stream = io.BytesIO(framed(MAGIC, padded(64), announced))
    with pytest.raises(CorruptCiphertext):
        read_header(MAGIC, stream.read)
    assert stream.tell() == 12


@UNHURRIED
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda body: framed(MAGIC, body)))
def test_any_bytes_are_a_header_or_corrupt(data: bytes) -> None:
    try:
        document, raw = read(data)
    except CorruptCiphertext:
        return
    assert data.startswith(raw)
    assert json.loads(raw[12:]) == document


def test_exactly_gives_the_values_in_the_order_of_the_names() -> None:
    assert exactly({"b": 2, "a": 1}, "a", "b") == (1, 2)


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "B": 2}], ids=str)
def test_exactly_refuses_missing_and_further_fields(document: dict[str, Any]) -> None:
    with pytest.raises(CorruptCiphertext):
        exactly(document, "a", "b")


@pytest.mark.parametrize("value", [0, 1, 65_536, (1 << 52) - 1])
def test_sizes(value: int) -> None:
    assert is_size(value)


@pytest.mark.parametrize("value", NO_SIZES.values(), ids=NO_SIZES)
def test_no_sizes(value: object) -> None:
    assert not is_size(value)


@pytest.mark.parametrize("value", [0, 1, 1 << 52, (1 << 53) - 1])
def test_integers(value: int) -> None:
    assert is_integer(value)


@pytest.mark.parametrize("value", [1 << 53, *(value for value in NO_SIZES.values() if value != 1 << 52)], ids=repr)
def test_no_integers(value: object) -> None:
    assert not is_integer(value)


def test_a_text_is_a_string_that_matches_as_a_whole() -> None:
    pattern = re.compile("a+")
    assert is_text("aa", pattern)
    assert not any(is_text(value, pattern) for value in ("", "ab", "a\n", b"a", None, 1, ["a"]))


def test_what_is_required_is_named() -> None:
    require("anything", "field")
    with pytest.raises(CorruptCiphertext, match="its field root_id is malformed"):
        require([], "root_id")


@pytest.mark.parametrize("limit", [8, 100, 65_536])
def test_json_of_any_limit_is_written_and_read_up_to_it(limit: int) -> None:
    document = {"a": "x" * (limit - 8)}
    raw = write_json(document, limit)
    assert read_json(io.BytesIO(raw + b"rest").read, limit) == (document, raw)
    with pytest.raises(ValueError, match=f"has {limit + 1} bytes, at most {limit}"):
        write_json({"a": "x" * (limit - 7)}, limit)
    with pytest.raises(CorruptCiphertext, match=f"announces a header of {limit + 1} bytes"):
        read_json(io.BytesIO(framed(b"", padded(limit + 1))).read, limit)


@pytest.mark.parametrize("body", [b'{"a":{"b":1,"b":1}}', b'{"a":[{"b":1,"b":2}]}', b'{"b":1,"\\u0062":1}'], ids=str)
def test_a_field_twice_at_any_depth_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptCiphertext, match="is not JSON"):
        read_json(io.BytesIO(framed(b"", body)).read, MAX)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 32, 64, 88])
def test_base64_is_parsed(size: int) -> None:
    data = bytes(range(200, 200 + size)) if size < 50 else bytes(size)
    assert parse_base64(b64encode(data).decode(), size, "root") == data
    for other in (size - 1, size + 1):
        with pytest.raises(CorruptCiphertext, match="its field root is malformed"):
            parse_base64(b64encode(data).decode(), other, "root")


NO_BASE64: list[object] = [
    *(
        None,
        True,
        1,
        b"AAAA",
        ["AAAA"],
        {},
        "",
        "A",
        "AA",
        "AAA",
        "AA=",
        "AAA=",
        "AAAAA",
        "AAAA=",
        "AAAA====",
        "AAAA\n",
    ),
    *(" AAAA", "AA AA", "A-_A", "AÄAA", "\ud800AAA", "\uff21AAA", "=AAA", "AA==AAAA"),
]


@pytest.mark.parametrize("value", NO_BASE64, ids=ascii)
def test_no_base64_of_three_bytes(value: object) -> None:
    with pytest.raises(CorruptCiphertext, match="its field root is malformed"):
        parse_base64(value, 3, "root")


@pytest.mark.parametrize("value", ["AB==", "AAB=", "//=="], ids=str)
def test_spare_bits_of_base64_must_be_zero(value: str) -> None:
    for size in (1, 2):
        with pytest.raises(CorruptCiphertext, match="its field root is malformed"):
            parse_base64(value, size, "root")
