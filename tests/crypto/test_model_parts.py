"""Stored resources: the bytes of small and big objects, the split between them, and invalid small objects."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator

import pytest

from loader.crypto.model_parts import BigPart, ResourceName, SmallPart
from loader.errors import CorruptCiphertext
from tests.crypto.framing import framed
from tests.crypto.hostile_io import ShortSource
from tests.crypto.reference import MIB, ReferenceCipher, cut, pattern
from tests.crypto.reference_archive import piece_digest
from tests.crypto.reference_model import OBJECT, ReferenceModel, model_document
from tests.crypto.streams import KEY, read_all, read_to_failure
from tests.support.sealed_objects import EDITION, seal_resource

NAME = ResourceName("models/day", "detector.onnx")
HEAD = 65_536
# The size of a plaintext whose ciphertext is exactly one head.
FULL = HEAD - 56


def objects_of(plaintext: bytes) -> tuple[bytes, bytes]:
    """Return the small and the big object of a resource, built without the code under test."""
    model = ReferenceModel.seal(NAME.path, plaintext, KEY)
    return model.small(), model.big


def sealed(plaintext: bytes, name: ResourceName = NAME) -> tuple[SmallPart, bytes]:
    """Return the same objects, built by the code under test."""
    big = io.BytesIO()
    small = seal_resource([plaintext], name, big)
    return small, big.getvalue()


@pytest.mark.parametrize(
    ("name", "path"),
    [(NAME, "models/day/detector.onnx"), (ResourceName("", "a"), "a"), (ResourceName("é", "ü"), "é/ü")],
    ids=["nested folder", "no folder", "not ASCII"],
)
def test_names(name: ResourceName, path: str) -> None:
    assert name.path == path
    assert name.small == f"{path}.small"
    assert name.big(BigPart(1, "0a" * 32, OBJECT)) == f"{path}.{OBJECT}.big"


SIZES = [0, 1, FULL - 1, FULL, FULL + 1, MIB - 56, MIB - 55, 3 * MIB]


@pytest.mark.parametrize("size", SIZES)
def test_objects_made_by_hand_are_read(size: int) -> None:
    small, big = objects_of(pattern(size))
    part = SmallPart.from_bytes(small)
    assert (part.key, part.size, len(part.head)) == (KEY, size, HEAD if big else size + 56)
    assert part.big == (BigPart(len(big), piece_digest(big), OBJECT) if big else None)
    assert read_all(part.decrypt(NAME, io.BytesIO(big) if big else None)) == pattern(size)


@pytest.mark.parametrize(
    "name", [NAME, ResourceName("", "detector.onnx"), ResourceName("é", "ü")], ids=lambda n: n.path
)
@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_of_the_objects(size: int, name: ResourceName) -> None:
    small, big = sealed(pattern(size), name)
    raw = small.to_bytes()
    assert raw[:8] == b"AZSMALL2"
    end = 12 + int.from_bytes(raw[8:12], "big")
    unsigned = framed(b"", b'{"signatures":[]}')
    described, head = json.loads(raw[12:end]), raw[end:].removeprefix(unsigned)
    assert len(head) == len(raw) - end - len(unsigned)
    key = b64decode(described["key"], validate=True)
    assert len(key) == 32
    expected = model_document(size, big, key) | {"serial": EDITION.serial, "created": EDITION.created}
    if big:
        assert re.fullmatch("[0-9a-f]{32}", described["big"]["object"])
        expected["big"]["object"] = described["big"]["object"]
    assert described == expected
    ciphertext = head + big
    reference = ReferenceCipher(key, name.path.encode(), ciphertext[1:33], ciphertext[33:40])
    assert ciphertext == reference.seal(pattern(size))
    assert SmallPart.from_bytes(raw) == small


@pytest.mark.parametrize(
    ("size", "head", "big"),
    [(0, 56, None), (FULL - 1, 65_535, None), (FULL, 65_536, None), (FULL + 1, 65_536, 1), (FULL + 2, 65_536, 2)],
)
def test_the_cut_between_head_and_big(size: int, head: int, big: int | None) -> None:
    small, rest = sealed(pattern(size))
    assert len(small.head) == head
    assert (small.big.size if small.big is not None else None) == big
    assert len(rest) == (big or 0)


def test_every_sealing_has_a_key_of_its_own() -> None:
    (one, _), (other, _) = sealed(b"text"), sealed(b"text")
    assert one.key != other.key
    assert one.head[40:] != other.head[40:]


def test_every_big_object_has_a_name_of_its_own() -> None:
    bigs = [sealed(pattern(FULL + 1))[0].big for _ in range(20)]
    assert len({big.object for big in bigs if big is not None}) == 20


def test_a_small_object_shows_neither_key_nor_head() -> None:
    small, _ = sealed(pattern(FULL + 1))
    shown = repr(small) + str(small)
    assert f"size={FULL + 1}" in shown
    for secret in (small.key, small.head[:16]):
        for form in (repr(secret)[2:-1], secret.hex(), b64encode(secret).decode().rstrip("=")):
            assert form not in shown


def test_a_failing_plaintext_is_not_sealed() -> None:
    def failing() -> Iterator[bytes]:
        yield pattern(2 * MIB)
        raise OSError("the sender is gone")

    with pytest.raises(OSError, match="the sender is gone"):
        seal_resource(failing(), NAME, io.BytesIO())


@pytest.mark.parametrize("steps", [[1, 1000, 65_536], [1 << 30]], ids=["short", "whole"])
def test_big_may_come_in_pieces(steps: list[int]) -> None:
    small, big = objects_of(pattern(3 * MIB))
    assert read_all(SmallPart.from_bytes(small).decrypt(NAME, ShortSource(big, steps))) == pattern(3 * MIB)


SMALL, BIG = objects_of(pattern(2 * MIB))
WRONG_BIGS = {
    "none": (None, 0),
    "empty": (b"", 0),
    "cut in the first segment": (BIG[:1000], 0),
    "cut by a byte": (BIG[:-1], 2),
    "a byte added": (BIG + b"\0", 2),
    "first byte flipped": (bytes([BIG[0] ^ 1]) + BIG[1:], 0),
    "last byte flipped": (BIG[:-1] + bytes([BIG[-1] ^ 1]), 2),
    "of another sealing": (sealed(pattern(2 * MIB))[1], 0),
}


@pytest.mark.parametrize(("big", "whole"), WRONG_BIGS.values(), ids=WRONG_BIGS)
def test_a_wrong_big_object_fails(big: bytes | None, whole: int) -> None:
    part = SmallPart.from_bytes(SMALL)
    failed = read_to_failure(lambda: part.decrypt(NAME, None if big is None else io.BytesIO(big)))
    assert type(failed.failure) is CorruptCiphertext
    assert failed.released == cut(pattern(2 * MIB))[: len(failed.released)]
    assert len(failed.released) <= whole


def test_big_where_there_should_be_none_fails() -> None:
    small, _ = objects_of(b"text")
    failed = read_to_failure(lambda: SmallPart.from_bytes(small).decrypt(NAME, io.BytesIO(b"x")))
    assert type(failed.failure) is CorruptCiphertext
    assert failed.released == []


@pytest.mark.parametrize(
    "name",
    [ResourceName("", "detector.onnx"), ResourceName("models", "detector.onnx"), ResourceName("models/day", "other")],
    ids=lambda name: name.path,
)
def test_a_resource_cannot_stand_in_for_another(name: ResourceName) -> None:
    failed = read_to_failure(lambda: SmallPart.from_bytes(SMALL).decrypt(name, io.BytesIO(BIG)))
    assert type(failed.failure) is CorruptCiphertext
    assert failed.released == []
