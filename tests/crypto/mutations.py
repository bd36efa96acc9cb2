"""Mutations of valid bytes, as a fuzzer makes them: flipped, cut, spliced, or changed as JSON before framing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.crypto.framing import framed
from tests.crypto.hostile_json import MISSING, JsonPath, changed, damaged

# Include lone surrogates, which JSON can contain and UTF-8 cannot.
ANY_TEXT = st.text(st.characters(), max_size=70)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
ANY_VALUE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=5
)
MAX_RAW = 400


def mutated(magic: bytes, documents: list[dict[str, Any]], tails: list[bytes]) -> st.SearchStrategy[bytes]:
    """Generate mutated files that frame a document of `documents` under `magic` and end in one of `tails`."""
    tail = st.sampled_from(tails)
    document = st.sampled_from(documents)
    valid = st.builds(lambda described, rest: framed(magic, described) + rest, document, tail)
    bodies = document.flatmap(_changed_documents).map(json.dumps).map(str.encode)
    doubled = st.builds(_doubled, document, ANY_VALUE)
    return st.one_of(
        st.binary(max_size=MAX_RAW),
        st.binary(max_size=MAX_RAW).map(lambda body: framed(magic, body)),
        valid.flatmap(damaged),
        valid.flatmap(flipped),
        valid.flatmap(cut),
        spliced(valid),
        st.builds(lambda body, rest: framed(magic, body) + rest, bodies | doubled | bodies.flatmap(damaged), tail),
    )


@st.composite
def flipped(draw: st.DrawFn, data: bytes) -> bytes:
    """Return `data` with a few bits changed."""
    result = bytearray(data)
    for position in draw(st.lists(st.integers(0, len(data) * 8 - 1), min_size=1, max_size=6)):
        result[position // 8] ^= 1 << position % 8
    return bytes(result)


def cut(data: bytes) -> st.SearchStrategy[bytes]:
    """Return the start of `data`."""
    return st.integers(0, len(data) - 1).map(lambda length: data[:length])


def spliced(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return the start of one file and the end of another."""
    place = st.floats(0, 1)
    return st.builds(
        lambda one, other, begin, end: one[: int(len(one) * begin)] + other[int(len(other) * end) :],
        *(whole, whole, place, place),
    )


def paths_of(value: object, at: JsonPath = ()) -> list[JsonPath]:
    """Return every place in a JSON value except the value itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, child in inner for path in ((*at, key), *paths_of(child, (*at, key)))]


def _changed_documents(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    places = st.sampled_from(paths_of(document))
    replaced = st.builds(changed, st.just(document), places, ANY_VALUE | st.just(MISSING))
    added = st.builds(lambda key, value: {**document, key: value}, ANY_TEXT, ANY_VALUE)
    return replaced | added


def _doubled(document: dict[str, Any], value: object) -> bytes:
    """Return the JSON with its first field twice."""
    first = json.dumps({next(iter(document)): value})
    return f"{first[:-1]}, {json.dumps(document)[1:]}".encode()
