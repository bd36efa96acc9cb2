"""JSON values that a parser of sizes and strings must refuse."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

NO_SIZES: dict[str, object] = {
    "true": True,
    "false": False,
    "null": None,
    "negative": -1,
    "fraction": 1.5,
    "whole fraction": 1.0,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "string": "1",
    "list": [1],
    "object": {},
    "2^52": 1 << 52,
    "4300 digits": 10**4300
    - 1,  # the most that Python reads, and one more digit than it writes once something is added
}

NO_STRINGS: dict[str, object] = {
    "null": None,
    "true": True,
    "number": 1,
    "list": ["a"],
    "object": {},
    "nan": float("nan"),
}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

MISSING = object()

# A position in a document: field names and list indexes, from the outermost to the innermost.
JsonPath = tuple[str | int, ...]


def changed(document: dict[str, Any], path: JsonPath, value: object) -> dict[str, Any]:
    """Return a copy of `document` with `value` at `path`, or without that field if `value` is `MISSING`."""
    result = copy.deepcopy(document)
    *way, last = path
    place: Any = result
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return result


def case_name(value: object) -> str:
    """Return the text that stands for a path or a value in a test id."""
    return (
        "missing" if value is MISSING else ".".join(map(str, value)) if isinstance(value, tuple) else repr(value)[:40]
    )


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw a copy of `data` with a few bytes changed, removed or inserted, possibly in the length field."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(result)))
        end = draw(st.integers(begin, min(len(result), begin + 8)))
        result[begin:end] = draw(
            st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"9" * 20, b"-", b"null", b"\\ud800"])
        )
    return bytes(result)
