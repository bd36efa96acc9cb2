"""The seals of an archive: their bytes, what they bind, and the refusal of every other form."""

from __future__ import annotations

import io
import json
from base64 import b64decode, b64encode
from typing import Any

import pytest

from loader.crypto.archive_head import Head, StoredHead
from loader.crypto.archive_seals import SEALED_ROOT_SIZE, Seals, key_check, new_root, root_id
from loader.crypto.json_header import JSON_MAX_SIZE, SEALS_MAX_SIZE, Signature, read_json
from loader.errors import CorruptCiphertext
from tests.crypto.hostile_json import MISSING, NO_STRINGS, JsonPath, case_name, changed
from tests.crypto.reference import ReferenceCipher, pattern
from tests.crypto.reference_archive import (
    FRAGMENT,
    ROOT,
    ReferenceBlob,
    ReferenceImage,
    framed_json,
    head_of,
    mac_of,
    sealed_root,
    seals_of,
)
from tests.support.flips import flipped

IMAGE = ReferenceImage("a.b/c:1", (ReferenceBlob(b"layer"),))
OTHER_FRAGMENT = pattern(64)
OTHER_ROOT = pattern(32)


def stored_head(document: dict[str, Any]) -> StoredHead:
    raw = framed_json(document)
    return StoredHead(Head.parse(read_json(io.BytesIO(raw).read, JSON_MAX_SIZE)[0]), raw)


STORED = stored_head(head_of([IMAGE]))


def test_seals_have_exactly_the_documented_bytes() -> None:
    raw = Seals.make(STORED, ROOT, FRAGMENT).to_bytes()
    assert int.from_bytes(raw[:4], "big") == len(raw) - 4
    document = json.loads(raw[4:])
    assert document.keys() == {"key", "mac", "signatures"}
    assert document["key"].keys() == {"check", "root"}
    assert document["mac"] == mac_of(STORED.raw, FRAGMENT)
    assert document["key"]["check"] == key_check(FRAGMENT)
    assert document["signatures"] == []
    sealed = b64decode(document["key"]["root"])
    label = b"azaion-loader/2 root\0" + STORED.head.root_id.encode()
    assert sealed == ReferenceCipher(FRAGMENT, label, sealed[1:33], sealed[33:40]).seal(ROOT)
    assert len(sealed) == SEALED_ROOT_SIZE == 88


def test_written_seals_are_read_back() -> None:
    seals = Seals.make(STORED, ROOT, FRAGMENT)
    signed = Seals(seals.check, seals.root, seals.mac, (Signature(bytes(32), bytes(64)), Signature(ROOT, pattern(64))))
    for one in (seals, signed):
        assert Seals.parse(read_json(io.BytesIO(one.to_bytes()).read, SEALS_MAX_SIZE)[0]) == one


def test_seals_open_with_their_fragment() -> None:
    for seals in (Seals.make(STORED, ROOT, FRAGMENT), Seals.parse(seals_of(STORED.raw))):
        assert seals.match(FRAGMENT)
        assert seals.open(STORED, FRAGMENT) == ROOT


@pytest.mark.parametrize("size", [32, 33, 4096])
def test_a_root_is_sealed_again_under_another_fragment(size: int) -> None:
    again = Seals.make(STORED, Seals.make(STORED, ROOT, FRAGMENT).open(STORED, FRAGMENT), pattern(size))
    assert again.open(STORED, pattern(size)) == ROOT
    assert not again.match(FRAGMENT)


def test_every_sealing_of_a_root_has_a_header_of_its_own() -> None:
    headers = {Seals.make(STORED, ROOT, FRAGMENT).root[:40] for _ in range(20)}
    assert len(headers) == 20


def test_roots_are_random() -> None:
    roots = {new_root() for _ in range(20)}
    assert {len(root) for root in roots} == {32}
    assert len({root_id(root) for root in roots}) == len(roots) == 20


@pytest.mark.parametrize("size", [0, 1, 31, 4097])
def test_a_fragment_of_a_wrong_size_does_not_match_even_its_own_check(size: int) -> None:
    fragment = pattern(size)
    assert not Seals(key_check(fragment), bytes(88), "00" * 32).match(fragment)


WRONG_FRAGMENTS = {
    "another": bytes(32),
    "one bit": FRAGMENT[:-1] + bytes([FRAGMENT[-1] ^ 1]),
    "longer": FRAGMENT + b"\n",
    "shorter": FRAGMENT[:-1],
    "empty": b"",
}


@pytest.mark.parametrize("fragment", WRONG_FRAGMENTS.values(), ids=WRONG_FRAGMENTS)
def test_a_wrong_fragment_neither_matches_nor_opens(fragment: bytes) -> None:
    seals = Seals.make(STORED, ROOT, FRAGMENT)
    assert not seals.match(fragment)
    with pytest.raises(CorruptCiphertext, match="head does not authenticate"):
        seals.open(STORED, fragment)


def test_every_byte_of_the_head_is_authenticated() -> None:
    seals = Seals.make(STORED, ROOT, FRAGMENT)
    for position in range(len(STORED.raw)):
        with pytest.raises(CorruptCiphertext, match="head does not authenticate"):
            seals.open(StoredHead(STORED.head, flipped(STORED.raw, position)), FRAGMENT)


def test_the_form_of_the_head_is_authenticated_too() -> None:
    """A head with another white space says the same and was not sealed."""
    body = json.dumps(head_of([IMAGE]), indent=1).encode()
    raw = len(body).to_bytes(4, "big") + body
    with pytest.raises(CorruptCiphertext, match="head does not authenticate"):
        Seals.parse(seals_of(STORED.raw)).open(StoredHead(STORED.head, raw), FRAGMENT)
    assert Seals.parse(seals_of(raw)).open(StoredHead(STORED.head, raw), FRAGMENT) == ROOT


def test_every_byte_of_the_sealed_root_is_authenticated() -> None:
    seals = Seals.make(STORED, ROOT, FRAGMENT)
    for position in range(SEALED_ROOT_SIZE):
        with pytest.raises(CorruptCiphertext, match="root does not authenticate"):
            Seals(seals.check, flipped(seals.root, position), seals.mac).open(STORED, FRAGMENT)


def resealed(root: bytes) -> Seals:
    """Return authentic seals of the head with another sealed root."""
    return Seals(key_check(FRAGMENT), root, mac_of(STORED.raw, FRAGMENT))


def test_a_root_that_the_head_does_not_name_is_refused() -> None:
    with pytest.raises(CorruptCiphertext, match="another one than its head names"):
        resealed(sealed_root(STORED.head.root_id, OTHER_ROOT, FRAGMENT)).open(STORED, FRAGMENT)


@pytest.mark.parametrize("label", [b"", b"azaion-loader/2 root\0", b"azaion-loader/2 root\0" + bytes(16)], ids=ascii)
def test_a_root_sealed_for_something_else_is_refused(label: bytes) -> None:
    with pytest.raises(CorruptCiphertext, match="root does not authenticate"):
        resealed(ReferenceCipher(FRAGMENT, label).seal(ROOT)).open(STORED, FRAGMENT)


def test_seals_of_another_head_of_the_same_root_are_refused() -> None:
    later = stored_head(head_of([ReferenceImage("a.b/c:2", IMAGE.layers)]))
    with pytest.raises(CorruptCiphertext, match="head does not authenticate"):
        Seals.make(later, ROOT, FRAGMENT).open(STORED, FRAGMENT)


def test_a_repr_does_not_show_the_sealed_root() -> None:
    seals = Seals.make(STORED, ROOT, FRAGMENT)
    assert repr(seals.root) not in repr(seals)


NO_ROOTS: list[object] = [
    *NO_STRINGS.values(),
    *("", "A" * 117, b64encode(bytes(87)).decode(), b64encode(bytes(89)).decode(), "00" * 88),
    *(b64encode(bytes(88)).decode() + end for end in ("\n", "=", "A")),
    b64encode(bytes(88)).decode().rstrip("="),
]
NO_CHECKS: list[object] = [*NO_STRINGS.values(), "", "0" * 15, "0" * 17, "A" * 16, "0" * 15 + "g", "0" * 16 + "\n"]
NO_MACS: list[object] = [*NO_STRINGS.values(), "", "0" * 63, "0" * 65, "A" * 64, "0" * 63 + "g", "0" * 64 + "\n"]
NO_OBJECTS: list[object] = [None, [], {}, "", 1, True, {"further": 1}]
SIGNATURE = {"key": b64encode(bytes(32)).decode(), "signature": b64encode(bytes(64)).decode()}
NO_LISTS: list[object] = [None, {}, "", 1, [None], [[]], ["a"], [{}], [SIGNATURE] * 2]
WRONG_VALUES: list[tuple[JsonPath, object]] = [
    *((path, MISSING) for path in [("key",), ("mac",), ("signatures",), ("key", "check"), ("key", "root")]),
    *((path, 1) for path in [("further",), ("key", "further"), ("signatures", 0, "further")]),
    *((("key",), value) for value in NO_OBJECTS),
    *((("key", "root"), value) for value in NO_ROOTS),
    *((("key", "check"), value) for value in NO_CHECKS),
    *((("mac",), value) for value in NO_MACS),
    *((("signatures",), value) for value in NO_LISTS),
    *((("signatures", 0), value) for value in NO_OBJECTS),
    *((("signatures", 0, name), value) for name in SIGNATURE for value in [*NO_STRINGS.values(), "", "AA==", MISSING]),
    (("signatures", 0, "key"), SIGNATURE["signature"]),
    (("signatures", 0, "signature"), SIGNATURE["key"]),
]


@pytest.mark.parametrize(("path", "value"), WRONG_VALUES, ids=case_name)
def test_seals_with_a_wrong_field_are_refused(path: JsonPath, value: object) -> None:
    right = seals_of(STORED.raw) | {"signatures": [dict(SIGNATURE)]}
    Seals.parse(right)
    with pytest.raises(CorruptCiphertext):
        Seals.parse(changed(right, path, value))
