"""The start of both file formats: 8 bytes of magic, uint32 BE N, N bytes of UTF-8 JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from loader.errors import CorruptCiphertext

MAGIC_SIZE = 8
LENGTH_SIZE = 4
JSON_MAX_SIZE = 1 << 20
SIZE_LIMIT = 1 << 52  # no ciphertext is larger, because its segments of 1 MiB are numbered with 32 bits

Read = Callable[[int], bytes]


def write_header(magic: bytes, document: dict[str, Any]) -> bytes:
    """Return `magic`, length and JSON of `document`. Raises ValueError if the JSON has more than 1 MiB."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > JSON_MAX_SIZE:
        raise ValueError(f"the header has {len(body)} bytes, at most {JSON_MAX_SIZE} are allowed")
    return magic + len(body).to_bytes(LENGTH_SIZE, "big") + body


def read_header(magic: bytes, read: Read) -> tuple[dict[str, Any], bytes]:
    """Read a header by `read(n)` and return its document and its raw bytes. Raises CorruptCiphertext."""
    prefix = read(MAGIC_SIZE + LENGTH_SIZE)
    if len(prefix) != MAGIC_SIZE + LENGTH_SIZE or prefix[:MAGIC_SIZE] != magic:
        raise CorruptCiphertext(f"it does not start with {magic.decode()}")
    size = int.from_bytes(prefix[MAGIC_SIZE:], "big")
    if not 1 <= size <= JSON_MAX_SIZE:
        raise CorruptCiphertext(f"it announces a header of {size} bytes")
    body = read(size)
    if len(body) != size:
        raise CorruptCiphertext("it ends within its header")
    try:
        document = json.loads(body.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise CorruptCiphertext("its header is not JSON") from None
    if not isinstance(document, dict):
        raise CorruptCiphertext("its header is not a JSON object")
    return document, prefix + body


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that stands twice, because parsers differ in which of the two they take."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field stands twice")
    return document


def exactly(document: dict[str, Any], *fields: str) -> tuple[Any, ...]:
    """Return the values of `fields`. Raises CorruptCiphertext unless `document` has exactly these fields."""
    if document.keys() != set(fields):
        raise CorruptCiphertext(f"a JSON object in it must have exactly the fields {', '.join(fields)}")
    return tuple(document[field] for field in fields)


def require(condition: object, field: str) -> None:
    """Raise CorruptCiphertext about `field` unless the condition holds."""
    if not condition:
        raise CorruptCiphertext(f"its field {field} is malformed")


def is_size(value: object) -> bool:
    """Return whether a JSON value is a number of bytes."""
    return type(value) is int and 0 <= value < SIZE_LIMIT
