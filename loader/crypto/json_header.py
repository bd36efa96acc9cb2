"""The shape that both file formats open with: 8 bytes of magic, uint32 BE N, N bytes of UTF-8 JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from loader.errors import CorruptCiphertext

MAGIC_SIZE = 8
LENGTH_SIZE = 4
JSON_MAX_SIZE = 1 << 20
SIZE_LIMIT = 1 << 52  # no ciphertext is larger: its segments of 1 MiB are numbered in 32 bits

Read = Callable[[int], bytes]


def write_header(magic: bytes, document: dict[str, Any]) -> bytes:
    """`magic`, length and JSON of `document`; raises ValueError if it is larger than the format allows."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > JSON_MAX_SIZE:
        raise ValueError(f"the header has {len(body)} bytes, at most {JSON_MAX_SIZE} are allowed")
    return magic + len(body).to_bytes(LENGTH_SIZE, "big") + body


def read_header(magic: bytes, read: Read) -> tuple[dict[str, Any], bytes]:
    """The document and the raw bytes of the header that `read(n)` delivers; raises CorruptCiphertext for any other."""
    prefix = read(MAGIC_SIZE + LENGTH_SIZE)
    if len(prefix) != MAGIC_SIZE + LENGTH_SIZE or prefix[:MAGIC_SIZE] != magic:
        raise CorruptCiphertext(f"does not begin as {magic.decode()}")
    size = int.from_bytes(prefix[MAGIC_SIZE:], "big")
    if not 1 <= size <= JSON_MAX_SIZE:
        raise CorruptCiphertext(f"announces a header of {size} bytes")
    body = read(size)
    if len(body) != size:
        raise CorruptCiphertext("ends within its header")
    try:
        document = json.loads(body.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise CorruptCiphertext("holds a header that is not JSON") from None
    if not isinstance(document, dict):
        raise CorruptCiphertext("holds a header that is not a JSON object")
    return document, prefix + body


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Parsers differ in which of two equal fields they believe."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field stands twice")
    return document


def exactly(document: dict[str, Any], *fields: str) -> tuple[Any, ...]:
    """The values of `fields`, which must be all that `document` has."""
    if document.keys() != set(fields):
        raise CorruptCiphertext(f"a header must have exactly the fields {', '.join(fields)}")
    return tuple(document[field] for field in fields)


def require(condition: object, field: str) -> None:
    """Refuse a header whose `field` is not as the format wants it."""
    if not condition:
        raise CorruptCiphertext(f"its field {field} is malformed")


def is_size(value: object) -> bool:
    """Whether a JSON value is a number of bytes."""
    return type(value) is int and 0 <= value < SIZE_LIMIT
