"""JSON in the file formats: uint32 BE N, N bytes of UTF-8 JSON; at the start of a file behind 8 bytes of magic.

Archives and models have it in common, and their seals the field `signatures`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

from loader.errors import CorruptCiphertext
from loader.publisher_keys import PUBLIC_KEY_SIZE

MAGIC_SIZE = 8
LENGTH_SIZE = 4
JSON_MAX_SIZE = 1 << 20
SEALS_MAX_SIZE = 64 << 10
MAX_SIGNATURES = 16
SIGNATURE_SIZE = 64
SIZE_LIMIT = 1 << 52  # no ciphertext is larger, because its segments of 1 MiB are numbered with 32 bits
INTEGER_LIMIT = 1 << 53  # every JSON parser reads smaller integers exactly (RFC 8259, section 6)

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

Read = Callable[[int], bytes]


def write_header(magic: bytes, document: dict[str, Any]) -> bytes:
    """Return `magic`, length and JSON of `document`. Raises ValueError if the JSON has more than 1 MiB."""
    return magic + write_json(document, JSON_MAX_SIZE)


def write_json(document: dict[str, Any], max_size: int) -> bytes:
    """Return length and JSON of `document`. Raises ValueError if the JSON has more than `max_size` bytes."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > max_size:
        raise ValueError(f"the header has {len(body)} bytes, at most {max_size} are allowed")
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def read_header(magic: bytes, read: Read) -> tuple[dict[str, Any], bytes]:
    """Read a header by `read(n)` and return its document and its raw bytes. Raises CorruptCiphertext."""
    if read(MAGIC_SIZE) != magic:
        raise CorruptCiphertext(f"it does not start with {magic.decode()}")
    document, raw = read_json(read, JSON_MAX_SIZE)
    return document, magic + raw


def read_json(read: Read, max_size: int) -> tuple[dict[str, Any], bytes]:
    """Read length and JSON by `read(n)`, and return the object and the raw bytes. Raises CorruptCiphertext."""
    length = read(LENGTH_SIZE)
    size = int.from_bytes(length, "big")
    if len(length) != LENGTH_SIZE or not 1 <= size <= max_size:
        raise CorruptCiphertext(f"it announces a header of {size} bytes" if length else "it ends before its header")
    body = read(size)
    if len(body) != size:
        raise CorruptCiphertext("it ends within its header")
    try:
        document = json.loads(body.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise CorruptCiphertext("its header is not JSON") from None
    if not isinstance(document, dict):
        raise CorruptCiphertext("its header is not a JSON object")
    return document, length + body


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
    return is_integer(value) and value < SIZE_LIMIT


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is an integer that is not negative and that every parser reads exactly."""
    return type(value) is int and 0 <= value < INTEGER_LIMIT


def is_text(value: object, pattern: re.Pattern[str]) -> TypeGuard[str]:
    """Return whether a JSON value is a string of this form."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def is_time(value: object) -> TypeGuard[str]:
    """Return whether a JSON value is a time in the form of RFC 3339."""
    return is_text(value, _RFC_3339)


def parse_base64(value: object, size: int, field: str) -> bytes:
    """Return the `size` bytes that a JSON string holds in padded base64. Raises CorruptCiphertext about `field`."""
    require(isinstance(value, str), field)
    try:
        data = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise CorruptCiphertext(f"its field {field} is malformed") from None
    # Compare the encoded form, because spare bits of base64 must be zero (RFC 4648, section 3.5): one value, one form.
    require(len(data) == size and to_base64(data) == value, field)
    return data


def to_base64(data: bytes) -> str:
    """Return `data` as `parse_base64` takes it."""
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Signature:
    """An Ed25519 signature of a release or a model: the raw public key and the raw signature."""

    key: bytes
    signature: bytes

    @classmethod
    def parse(cls, document: Any) -> Signature:
        """Parse one entry of `signatures`. Raises CorruptCiphertext."""
        require(isinstance(document, dict), "signatures")
        key, signature = exactly(document, "key", "signature")
        return cls(
            parse_base64(key, PUBLIC_KEY_SIZE, "signatures"), parse_base64(signature, SIGNATURE_SIZE, "signatures")
        )


def parse_signatures(documents: Any) -> tuple[Signature, ...]:
    """Parse the field `signatures`, at most 16 of distinct keys. Raises CorruptCiphertext."""
    require(isinstance(documents, list) and len(documents) <= MAX_SIGNATURES, "signatures")
    parsed = tuple(map(Signature.parse, documents))
    require(len({signature.key for signature in parsed}) == len(parsed), "signatures")
    return parsed


def signature_documents(signatures: Iterable[Signature]) -> list[dict[str, str]]:
    """Return the field `signatures` as it is stored."""
    return [{"key": to_base64(one.key), "signature": to_base64(one.signature)} for one in signatures]
