"""An archive of which any byte was changed, moved, added or removed is refused before a byte of its content is read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.errors import ArchiveCorrupt, ArchiveIncomplete, KeyMismatch, LoaderError
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import (
    ReferenceBlob,
    ReferenceImage,
    archive_of,
    assembled,
    blobs_of,
    framed_json,
    head_of,
    joined,
    piece_digest,
    seals_of,
    stored_gzip,
)
from tests.crypto.streams import UNHURRIED
from tests.crypto.whole_archive import contents_of, refusal
from tests.support.flips import flipped

MIB = 1 << 20
TEXT = pattern(400)
LARGE = pattern(2 * MIB + 300)
IMAGE = ReferenceImage(
    "docker.io/azaion/app:1.4.2", (ReferenceBlob(TEXT), ReferenceBlob(TEXT[:99], stored_gzip(TEXT[:99])))
)
LATER = ReferenceImage("docker.io/azaion/app:1.4.3", (ReferenceBlob(TEXT), ReferenceBlob(TEXT[:98])))
TWIN = ReferenceImage("docker.io/azaion/app:1.4.2", (ReferenceBlob(TEXT), ReferenceBlob(TEXT[::-1])))
BIG = ReferenceImage("docker.io/azaion/big:1", (ReferenceBlob(LARGE),))
OTHER_ROOT = pattern(32)
OTHER_FRAGMENT = pattern(48)

HEAD = framed_json(head_of([IMAGE]))
SEALS = seals_of(HEAD)
STORED = [blob.stored() for blob in blobs_of([IMAGE])]
FULL = archive_of([IMAGE])
START = len(FULL) - sum(map(len, STORED))


def present(stored: Sequence[bytes]) -> list[bytes]:
    return [bytes.fromhex(piece_digest(blob)) for blob in stored]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.enc"


def test_the_untouched_archives_are_read(path: Path) -> None:
    for image, data in ((IMAGE, FULL), (BIG, archive_of([BIG])), (LATER, archive_of([LATER]))):
        path.write_bytes(data)
        assert contents_of(path) == [blob.content for blob in blobs_of([image])]


CHECK = re.search(rb'"check":"([0-9a-f]{16})"', FULL)


def expected(data: bytes) -> type[LoaderError]:
    """Return how `data` must be refused: another key check tells that the archive was made for another fragment."""
    assert CHECK is not None
    begin, end = CHECK.span(1)
    same = len(data) == len(FULL) and data[:begin] + data[end:] == FULL[:begin] + FULL[end:]
    return KeyMismatch if same and re.fullmatch(rb"[0-9a-f]{16}", data[begin:end]) else ArchiveCorrupt


def test_every_flipped_byte_is_refused(path: Path) -> None:
    refused_as = []
    for position in range(len(FULL)):
        data = flipped(FULL, position)
        refused_as.append(expected(data))
        refusal(path, data, refused_as[-1])
    assert 1 <= refused_as.count(KeyMismatch) <= 16


BIG_FULL = archive_of([BIG])
BIG_START = len(BIG_FULL) - len(BIG.layers[0].stored())
PLACES = {
    "header size": 0,
    "salt": 1,
    "nonce prefix": 39,
    "first byte of the text": 40,
    "last byte of the first text": MIB - 17,
    "first tag": MIB - 16,
    "end of the first tag": MIB - 1,
    "second segment": MIB,
    "second tag": 2 * MIB - 1,
    "last segment": 2 * MIB,
    "last tag": len(BIG_FULL) - BIG_START - 16,
    "last byte": len(BIG_FULL) - BIG_START - 1,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_flipped_byte_of_a_large_blob_is_refused(path: Path, place: int) -> None:
    assert "not the one that its head names" in refusal(path, flipped(BIG_FULL, BIG_START + place))


def test_every_cut_and_every_added_byte_is_refused(path: Path) -> None:
    ends = [8, 12, 8 + len(HEAD), 12 + len(HEAD), START - 32 * len(STORED), START]
    ends += [START + sum(map(len, STORED[:number])) for number in range(1, len(STORED) + 1)]
    for kept in sorted({end + beside for end in ends for beside in (-1, 0, 1)} - {len(FULL), len(FULL) + 1}):
        refusal(path, FULL[:kept])
    for more in (b"\0", bytes(32), STORED[-1], FULL):
        assert "bytes instead of" in refusal(path, FULL + more)
        refusal(path, more + FULL)


def swapped(one: int, other: int) -> list[bytes]:
    stored = list(STORED)
    stored[one], stored[other] = stored[other], stored[one]
    return stored


def with_blobs(listed: Sequence[bytes], stored: Sequence[bytes]) -> bytes:
    """Return the archive with any list of blobs and any blobs."""
    return joined(HEAD, framed_json(SEALS), present(listed), stored)


OF_OTHER_ROOT = [blob.stored(OTHER_ROOT) for blob in blobs_of([IMAGE])]
MOVED = {
    "swapped": with_blobs(STORED, swapped(2, 3)),
    "swapped with the list": with_blobs(swapped(2, 3), swapped(2, 3)),
    "reversed": with_blobs(STORED, STORED[::-1]),
    "doubled": with_blobs(STORED, [*STORED, STORED[-1]]),
    "doubled with the list": with_blobs([*STORED, STORED[-1]], [*STORED, STORED[-1]]),
    "one in the place of another": with_blobs(STORED, [*STORED[:3], STORED[2]]),
    "missing": with_blobs(STORED, STORED[:-1]),
    "zeros": with_blobs(STORED, [*STORED[:3], bytes(len(STORED[3]))]),
    "of another root": with_blobs(STORED, OF_OTHER_ROOT),
    "one of another root": with_blobs(STORED, [*STORED[:3], OF_OTHER_ROOT[3]]),
    "of another root, with the list": with_blobs(OF_OTHER_ROOT, OF_OTHER_ROOT),
    "segments of another blob": with_blobs(STORED, [*STORED[:2], STORED[2][:40] + OF_OTHER_ROOT[2][40:], STORED[3]]),
}


@pytest.mark.parametrize("data", MOVED.values(), ids=MOVED)
def test_moved_and_foreign_blobs_are_refused(path: Path, data: bytes) -> None:
    refusal(path, data)


def test_a_blob_that_is_not_in_the_list_is_missing(path: Path) -> None:
    for left_out in range(len(STORED)):
        some = [blob for number, blob in enumerate(STORED) if number != left_out]
        assert "lacks 1 blobs of" in refusal(path, with_blobs(some, some), ArchiveIncomplete)


def sealed(seals: dict[str, Any], head: bytes = HEAD, stored: Sequence[bytes] = STORED) -> bytes:
    return joined(head, framed_json(seals), present(stored), stored)


TWIN_HEAD = framed_json(head_of([TWIN]))
ANOTHER_NAME = framed_json(head_of([IMAGE], OTHER_ROOT))
FOREIGN_SEALS = {
    "seals of a later release": sealed(seals_of(framed_json(head_of([LATER])))),
    "seals of a release of the same sizes": sealed(seals_of(TWIN_HEAD)),
    "MAC of another release": sealed(SEALS | {"mac": seals_of(TWIN_HEAD)["mac"]}),
    "head of a later release": sealed(SEALS, framed_json(head_of([LATER])), [b.stored() for b in blobs_of([LATER])]),
    "another root under the same fragment": sealed(seals_of(HEAD, OTHER_ROOT)),
    "another root, root and head replaced": sealed(seals_of(ANOTHER_NAME, OTHER_ROOT), ANOTHER_NAME),
    "root of another fragment": sealed(
        SEALS | {"key": SEALS["key"] | {"root": seals_of(HEAD, fragment=OTHER_FRAGMENT)["key"]["root"]}}
    ),
    "MAC of another fragment": sealed(SEALS | {"mac": seals_of(HEAD, fragment=OTHER_FRAGMENT)["mac"]}),
    "check of this fragment, all else of another": sealed(
        seals_of(HEAD, fragment=OTHER_FRAGMENT)
        | {"key": seals_of(HEAD, fragment=OTHER_FRAGMENT)["key"] | {"check": SEALS["key"]["check"]}}
    ),
}


@pytest.mark.parametrize("data", FOREIGN_SEALS.values(), ids=FOREIGN_SEALS)
def test_seals_of_something_else_are_refused(path: Path, data: bytes) -> None:
    refusal(path, data)


def test_seals_of_another_fragment_are_told_from_damage(path: Path) -> None:
    assert refusal(path, sealed(seals_of(HEAD, fragment=OTHER_FRAGMENT)), KeyMismatch)
    assert refusal(path, FULL, KeyMismatch, OTHER_FRAGMENT)


def test_all_of_another_root_is_another_archive(path: Path) -> None:
    """The counterpart of the tests above: the root may be any, if head and blobs belong to it."""
    path.write_bytes(archive_of([IMAGE], OTHER_ROOT, OTHER_FRAGMENT))
    assert contents_of(path, OTHER_FRAGMENT) == [blob.content for blob in blobs_of([IMAGE])]


def test_a_head_written_in_another_way_is_refused(path: Path) -> None:
    """It says the same, but it is not what was sealed."""
    body = json.dumps(head_of([IMAGE])).encode()
    data = joined(len(body).to_bytes(4, "big") + body, framed_json(SEALS), present(STORED), STORED)
    assert "head does not authenticate" in refusal(path, data)


@settings(UNHURRIED, max_examples=100)
@given(begin=st.integers(0, len(FULL)), size=st.integers(0, 80), patch=st.binary(max_size=80))
def test_any_bytes_in_place_of_any_others_are_refused(
    tmp_path_factory: pytest.TempPathFactory, begin: int, size: int, patch: bytes
) -> None:
    data = FULL[:begin] + patch + FULL[begin + size :]
    if data != FULL:
        refusal(tmp_path_factory.getbasetemp() / "patched.enc", data, expected(data))


def lying(changes: dict[str, Any], stored: Sequence[bytes] = STORED) -> bytes:
    """Return an archive with authentic seals of a head that tells something else of its image."""
    head = head_of([IMAGE])
    head["images"][0] |= changes
    return assembled(head, stored)


def test_a_packer_that_lies_about_an_image_is_caught(path: Path) -> None:
    layers = head_of([IMAGE])["images"][0]["layers"]
    assert "the manifest of" in refusal(path, lying({"layers": layers[::-1]}))
    assert "the manifest of" in refusal(path, lying({"layers": [*layers, layers[0]]}))
    assert "the configuration of" in refusal(path, lying({"created": ""}))
    assert "the configuration of" in refusal(path, lying({"platform": "linux/amd64"}))


def replaced(number: int, content: bytes, gzip: bytes | None = None) -> bytes:
    """Return an archive with authentic seals in which one blob has another content than its digest says."""
    head, blob = head_of([IMAGE]), ReferenceBlob(content, gzip or stored_gzip(content))
    head["blobs"][number] = blob.entry() | {"digest": head["blobs"][number]["digest"]}
    return assembled(head, [*STORED[:number], blob.stored(), *STORED[number + 1 :]])


@pytest.mark.parametrize("number", [0, 1], ids=["manifest", "configuration"])
def test_a_manifest_or_a_configuration_of_another_digest_is_caught(path: Path, number: int) -> None:
    right = blobs_of([IMAGE])[number].content
    path.write_bytes(replaced(number, right))
    assert len(contents_of(path)) == 4
    assert "does not have that digest" in refusal(path, replaced(number, right + b" "))
    assert "does not have that digest" in refusal(path, replaced(number, bytes(len(right))))
    assert "holds more than it announces" in refusal(path, replaced(number, right, stored_gzip(right + b" ")))
    assert "holds less than it announces" in refusal(path, replaced(number, right, stored_gzip(right[:-1])))
    assert "gzip is damaged" in refusal(path, replaced(number, right, right))
