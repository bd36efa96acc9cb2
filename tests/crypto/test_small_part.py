"""Invalid small objects are refused: every wrong value of every field, and sizes that do not add up."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.model_parts import SMALL_MAX_SIZE, SmallPart
from loader.errors import CorruptCiphertext
from tests.crypto import reference_model
from tests.crypto.framing import framed
from tests.crypto.hostile_json import JSON_VALUES, MISSING, NO_SIZES, NO_STRINGS, JsonPath, case_name, changed, damaged
from tests.crypto.reference_model import CREATED, OBJECT, SERIAL, seals_document
from tests.crypto.streams import UNHURRIED

HEAD = 65_536
FULL = HEAD - 56  # the plaintext whose ciphertext is exactly a head
KEY = b64encode(bytes(range(200, 232))).decode()
DIGEST = "0a" * 32


def document(size: int, big: int | None) -> dict[str, Any]:
    """The JSON of a small object; every call makes a new one."""
    described = None if big is None else {"size": big, "digest": DIGEST, "object": OBJECT}
    return {"key": KEY, "size": size, "serial": SERIAL, "created": CREATED, "big": described}


def small_object(described: dict[str, Any], head: int, seals: dict[str, Any] | bytes | None = None) -> bytes:
    """Return a small object with a head of `head` zero bytes, which the parser accepts because it decrypts nothing."""
    return reference_model.small_object(described, bytes(head), seals)


def assert_refused(data: bytes) -> None:
    with pytest.raises(CorruptCiphertext):
        SmallPart.from_bytes(data)


ADDING_UP = [(0, 56, None), (4, 60, None), (FULL, HEAD, None), (FULL + 1, HEAD, 1), (3_000_000, HEAD, 2_934_552)]


@pytest.mark.parametrize(("size", "head", "big"), ADDING_UP)
def test_parts_that_add_up(size: int, head: int, big: int | None) -> None:
    raw = small_object(document(size, big), head)
    part = SmallPart.from_bytes(raw)
    assert (part.size, len(part.head), part.big.size if part.big else None) == (size, head, big)
    assert SmallPart.from_bytes(part.to_bytes()) == part
    assert len(part.to_bytes()) <= SMALL_MAX_SIZE


NOT_ADDING_UP = {
    "head empty": (4, 0, None),
    "head one too short": (4, 59, None),
    "head one too long": (4, 61, None),
    "size one too small": (3, 60, None),
    "size one too large": (5, 60, None),
    "full head one too short": (FULL, HEAD - 1, None),
    "head one too long for a head": (FULL + 1, HEAD + 1, None),
    "big missing": (FULL + 1, HEAD, None),
    "big where the head is all": (FULL, HEAD, 1),
    "big of no bytes": (4, 60, 0),
    "big of no bytes after a full head": (FULL, HEAD, 0),
    "big instead of a head": (4, 0, 60),
    "big for a byte of the head": (4, 59, 1),
    "cut one byte too early": (FULL + 1, HEAD - 1, 2),
    "cut one byte too late": (FULL + 2, HEAD + 1, 1),
    "big one too small": (3_000_000, HEAD, 2_934_551),
    "big one too large": (3_000_000, HEAD, 2_934_553),
    "big of plaintext size": (3_000_000, HEAD, 3_000_000),
}


@pytest.mark.parametrize(("size", "head", "big"), NOT_ADDING_UP.values(), ids=NOT_ADDING_UP)
def test_parts_that_do_not_add_up_are_refused(size: int, head: int, big: int | None) -> None:
    assert_refused(small_object(document(size, big), head))


NO_KEYS = {
    **NO_STRINGS,
    "empty": "",
    "31 bytes": b64encode(bytes(31)).decode(),
    "bits left over": "A" * 42 + "B=",
    "33 bytes": b64encode(bytes(33)).decode(),
    "64 bytes": b64encode(bytes(64)).decode(),
    "hex": "00" * 32,
    "without padding": KEY.rstrip("="),
    "too much padding": KEY + "=",
    "with a newline": KEY + "\n",
    "with a space": " " + KEY,
    "URL alphabet": b64encode(bytes([0xFF]) * 32).decode().replace("/", "_"),
    "not ASCII": "é" * 44,
    "a surrogate": "\ud800" * 44,
}
NO_DIGESTS = [
    *NO_STRINGS.values(),
    "",
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST.upper(),
    "0g" * 32,
    "sha256:" + DIGEST,
    DIGEST + "\n",
]
NO_SERIALS = [value for name, value in NO_SIZES.items() if name != "2^52"]
NO_OBJECTS = [*NO_STRINGS.values(), "", OBJECT[:-1], OBJECT + "0", OBJECT.upper(), "0g" * 16, "../" * 10 + "aa"]
NO_TIMES = [*NO_STRINGS.values(), "", "2026-03-01", "2026-03-01 12:00:00Z", "2026-03-01T12:00:00", CREATED + "\n"]
FIELDS: list[JsonPath] = [
    *(("key",), ("size",), ("serial",), ("created",), ("big",)),
    *(("big", "size"), ("big", "digest"), ("big", "object")),
]
WRONG_VALUES: list[tuple[JsonPath, object]] = [
    *((path, MISSING) for path in FIELDS),
    *((path, 1) for path in [("further",), ("big", "further")]),
    *((("key",), value) for value in NO_KEYS.values()),
    *((("size",), value) for value in NO_SIZES.values()),
    *((("serial",), value) for value in [*NO_SERIALS, 1 << 53]),
    *((("created",), value) for value in NO_TIMES),
    *((("big",), value) for value in [True, False, 0, 2_934_552, "", [], [2_934_552, DIGEST], {}]),
    *((("big", "size"), value) for value in [0, *NO_SIZES.values()]),
    *((("big", "digest"), value) for value in NO_DIGESTS),
    *((("big", "object"), value) for value in NO_OBJECTS),
]


@pytest.mark.parametrize(("path", "value"), WRONG_VALUES, ids=case_name)
def test_a_wrong_field_is_refused(path: JsonPath, value: object) -> None:
    right = document(3_000_000, 2_934_552)
    SmallPart.from_bytes(small_object(right, HEAD))
    assert_refused(small_object(changed(right, path, value), HEAD))


@pytest.mark.parametrize("value", [True, 1.0], ids=str)
def test_a_size_that_python_takes_for_one_is_refused(value: object) -> None:
    """Both are equal to the number that would be right."""
    assert_refused(small_object(document(1, None) | {"size": value}, 57))
    assert_refused(small_object(changed(document(FULL + 1, 1), ("big", "size"), value), HEAD))


def test_false_for_an_absent_big_object_is_refused() -> None:
    assert_refused(small_object(document(4, None) | {"big": False}, 60))


SIGNATURE = (bytes(32), bytes(64))
NO_SIGNATURES: list[object] = [None, True, {}, "", [None], [[]], ["a"]]
WRONG_SEALS: list[dict[str, Any] | bytes] = [
    b"",
    b"[]",
    b'{"signatures": [], "signatures": []}',
    b'{"signatures": []}' + b" " * (64 << 10),
    *({"signatures": value} for value in NO_SIGNATURES),
    {},
    seals_document() | {"further": 1},
    seals_document(SIGNATURE, SIGNATURE),
    seals_document((bytes(31), bytes(64))),
    seals_document((bytes(32), bytes(65))),
    seals_document(*((bytes([number]) * 32, bytes(64)) for number in range(17))),
    *(changed(seals_document(SIGNATURE), ("signatures", 0, field), MISSING) for field in ("key", "signature")),
    changed(seals_document(SIGNATURE), ("signatures", 0, "further"), 1),
]


@pytest.mark.parametrize("seals", WRONG_SEALS, ids=lambda seals: repr(seals)[:60])
def test_wrong_seals_are_refused(seals: dict[str, Any] | bytes) -> None:
    assert_refused(small_object(document(4, None), 60, seals))


def test_up_to_sixteen_signatures_are_kept_with_the_bytes_of_the_header() -> None:
    seals = seals_document(*((bytes([number]) * 32, bytes([number]) * 64) for number in range(16)))
    raw = small_object(document(4, None), 60, seals)
    part = SmallPart.from_bytes(raw)
    assert [(one.key[0], one.signature[0]) for one in part.signatures] == [(number, number) for number in range(16)]
    assert part.header == raw[8 : 12 + int.from_bytes(raw[8:12], "big")]


@pytest.mark.parametrize("magic", [b"AZSMALL1", b"AZSMALL3", b"azsmall2", b"AZIMAGE2"])
def test_another_magic_is_refused(magic: bytes) -> None:
    raw = small_object(document(4, None), 60)
    SmallPart.from_bytes(raw)
    assert_refused(magic + raw[8:])


def parse_or_refuse(data: bytes) -> None:
    """Parse `data`; CorruptCiphertext is the only error allowed."""
    try:
        part = SmallPart.from_bytes(data)
    except CorruptCiphertext:
        return
    assert SmallPart.from_bytes(part.to_bytes()) == part


@settings(UNHURRIED, max_examples=300)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda body: framed(b"AZSMALL2", body))
    | damaged(small_object(document(4, None), 60))
    | damaged(small_object(document(3_000_000, 2_934_552), 0))
)
def test_any_bytes_are_a_small_object_or_corrupt(data: bytes) -> None:
    parse_or_refuse(data)


@settings(UNHURRIED, max_examples=300)
@given(st.sampled_from(FIELDS), JSON_VALUES)
def test_any_value_of_any_field_is_allowed_or_corrupt(path: JsonPath, value: object) -> None:
    parse_or_refuse(small_object(changed(document(3_000_000, 2_934_552), path, value), HEAD))
