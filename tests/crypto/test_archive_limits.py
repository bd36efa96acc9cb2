"""The limits of an archive's head and seals: what is exactly at a limit is read, and one more is refused."""

from __future__ import annotations

import io
import json
import tracemalloc
from base64 import b64encode
from bisect import bisect_left
from typing import Any

import pytest

from loader.crypto.archive_head import Head, StoredHead
from loader.crypto.archive_seals import Seals
from loader.crypto.json_header import JSON_MAX_SIZE, SEALS_MAX_SIZE, read_json
from loader.errors import CorruptCiphertext
from tests.crypto.framing import framed
from tests.crypto.heads import blob, digest, document, head_of_one, image, parse
from tests.crypto.hostile_json import DEEP
from tests.crypto.reference_archive import framed_json, seals_of

MIB = 1 << 20


def padded(described: dict[str, Any], size: int) -> bytes:
    """Return JSON of `described` with as many spaces as make it `size` bytes long."""
    body = json.dumps(described).encode()
    return body + b" " * (size - len(body))


def test_a_head_of_one_mebibyte() -> None:
    assert parse(padded(document(), MIB)) == parse(document())
    with pytest.raises(CorruptCiphertext, match="announces a header of 1048577 bytes"):
        parse(padded(document(), MIB + 1))


def references(count: int) -> dict[str, Any]:
    """Return a head of one image under so many names."""
    head = head_of_one(1)
    manifest = head["images"][0]["manifest"]
    head["images"] += [{"reference": f"a.b/c:{number}", "manifest": manifest} for number in range(count - 1)]
    return head


def images(count: int) -> dict[str, Any]:
    """Return a head of so many images that share one layer."""
    head = head_of_one(1)
    head["images"] = [image(f"app{number}", ["layer 0"]) for number in range(count)]
    parts = [part for number in range(count) for part in (f"manifest of app{number}", f"configuration of app{number}")]
    return head | {"blobs": [*map(blob, parts), blob("layer 0")]}


def blobs(count: int) -> dict[str, Any]:
    """Return a head of exactly so many blobs, in as few images as that takes."""
    described: list[dict[str, Any]] = []
    names: list[str] = []
    left = count
    while left:
        layers = [f"{len(described)}.{number}" for number in range(min(128, left - 2))]
        described.append(image(f"app{len(described)}", layers))
        names += [f"manifest of app{len(described) - 1}", f"configuration of app{len(described) - 1}", *layers]
        left = count - len(names)
    return document() | {"images": described, "blobs": [blob(name) for name in names]}


@pytest.mark.parametrize("make", [references, images])
def test_256_references(make: Any) -> None:
    assert len(parse(make(256)).images) == 256
    with pytest.raises(CorruptCiphertext, match="images"):
        parse(make(257))


def test_128_layers() -> None:
    assert len(parse(head_of_one(128)).images[0].layers) == 128
    with pytest.raises(CorruptCiphertext, match="layers"):
        parse(head_of_one(129))


def test_4096_blobs_are_allowed_where_the_head_is_no_longer_than_a_mebibyte() -> None:
    """An entry of a blob takes more than 256 bytes, so that H bounds the blobs of a file first."""
    assert len(Head.parse(blobs(4096)).blobs) == 4096
    with pytest.raises(CorruptCiphertext, match="blobs"):
        Head.parse(blobs(4097))
    with pytest.raises(ValueError, match="at most 1048576 are allowed"):
        StoredHead.of(Head.parse(blobs(4096)))


def test_the_most_blobs_that_a_file_can_have() -> None:
    most = 2600 + bisect_left(range(2600, 3400), True, key=lambda count: not fits(count)) - 1
    assert fits(most)
    assert not fits(most + 1)
    stored = StoredHead.of(Head.parse(blobs(most)))
    assert parse(stored.raw[4:]) == stored.head


def fits(count: int) -> bool:
    """Return whether a head of so many blobs has no more than 1 MiB."""
    return len(framed_json(blobs(count))) <= 4 + MIB


def test_all_blobs_together_are_smaller_than_2_52_bytes() -> None:
    head = head_of_one(3)
    for entry in head["blobs"][2:]:
        entry["size"] = entry["packed"]["size"] = 1 << 50
    assert parse(head).blobs[2].size == 1 << 50
    for entry in head["blobs"][2:]:
        entry["size"] = entry["packed"]["size"] = 1 << 51
    with pytest.raises(CorruptCiphertext, match="blobs"):
        parse(head)


@pytest.mark.parametrize("number", [0, 1])
def test_a_manifest_and_a_configuration_have_up_to_4_mib(number: int) -> None:
    head = head_of_one(1)
    head["blobs"][number]["size"] = head["blobs"][number]["packed"]["size"] = 4 * MIB
    assert parse(head).blobs[number].size == 4 * MIB
    head["blobs"][number]["size"] = head["blobs"][number]["packed"]["size"] = 4 * MIB + 1
    with pytest.raises(CorruptCiphertext, match="blobs"):
        parse(head)


def signatures(count: int) -> list[dict[str, str]]:
    """Return so many entries of distinct keys."""
    return [
        {"key": b64encode(bytes([number]) * 32).decode(), "signature": b64encode(bytes(64)).decode()}
        for number in range(count)
    ]


def parse_seals(seals: dict[str, Any] | bytes) -> Seals:
    return Seals.parse(read_json(io.BytesIO(framed(b"", seals)).read, SEALS_MAX_SIZE)[0])


def valid_seals() -> dict[str, Any]:
    return seals_of(framed_json(document() | {"root_id": "0a" * 16}))


def test_16_signatures() -> None:
    assert len(parse_seals(valid_seals() | {"signatures": signatures(16)}).signatures) == 16
    with pytest.raises(CorruptCiphertext, match="signatures"):
        parse_seals(valid_seals() | {"signatures": signatures(17)})
    with pytest.raises(CorruptCiphertext, match="signatures"):
        parse_seals(valid_seals() | {"signatures": [*signatures(3), signatures(1)[0]]})


def test_seals_of_64_kib() -> None:
    assert parse_seals(padded(valid_seals(), 65_536)) == parse_seals(valid_seals())
    with pytest.raises(CorruptCiphertext, match="announces a header of 65537 bytes"):
        parse_seals(padded(valid_seals(), 65_537))


BODY = json.dumps(document()).encode()
NO_JSON = {
    "a field of the head twice": BODY[:-1] + b', "format": 2}',
    "a field of the release twice": BODY.replace(b'"serial": 7', b'"serial": 7, "serial": 7'),
    "a field twice, once escaped": BODY.replace(b'"serial": 7', b'"serial": 7, "seri\\u0061l": 7'),
    "a number with an exponent": BODY.replace(b'"serial": 7', b'"serial": 7e0'),
    "a whole fraction": BODY.replace(b'"serial": 7', b'"serial": 7.0'),
    "not a number": BODY.replace(b'"serial": 7', b'"serial": NaN'),
    "minus zero as a fraction": BODY.replace(b'"serial": 7', b'"serial": -0.0'),
    "a leading zero": BODY.replace(b'"serial": 7', b'"serial": 07'),
    "5,000 digits": BODY.replace(b'"serial": 7', b'"serial": ' + b"7" * 5000),
    "a lone surrogate": BODY.replace(b'"1.4.2"', b'"\\ud800"'),
    "a lone surrogate in a name": BODY.replace(b"annotator:latest", b"annotator:\\udfff"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16 without a mark": BODY.decode().encode("utf-16-le"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "bytes that are not UTF-8": BODY.replace(b"1.4.2", b"1.4\xff2"),
    "deep nesting": DEEP,
    "deep nesting within": BODY.replace(b'"serial": 7', b'"serial": ' + b"[" * 50_000 + b"]" * 50_000),
    "a comment": BODY + b"//",
    "two documents": BODY + BODY,
    "a list": b"[" + BODY + b"]",
    "an empty object": b"{}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_json_that_parsers_could_read_in_two_ways_is_refused(body: bytes) -> None:
    assert body != BODY
    with pytest.raises(CorruptCiphertext):
        parse(body)


def test_the_largest_head_takes_little_memory() -> None:
    raw = framed(b"", padded(blobs(2400), JSON_MAX_SIZE))
    tracemalloc.start()
    try:
        Head.parse(read_json(io.BytesIO(raw).read, JSON_MAX_SIZE)[0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB


def test_digests_of_helpers_differ() -> None:
    """Otherwise a head of many blobs would be refused for another reason than the one that is tested."""
    assert len({digest(f"{number}") for number in range(5000)}) == 5000
