"""All of an archive but its blobs: its parts, the list of blobs that follow, and the one size that it may have."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.archive import ArchiveIndex, archive_start
from loader.errors import CorruptCiphertext
from tests.crypto.hostile_json import damaged
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import (
    ReferenceBlob,
    ReferenceImage,
    archive_of,
    blobs_of,
    digest,
    framed_json,
    head_of,
    joined,
    piece_digest,
    seals_of,
    stored_gzip,
)
from tests.crypto.streams import UNHURRIED

TEXT = pattern(500)
IMAGE = ReferenceImage("a.b/c:1", (ReferenceBlob(TEXT), ReferenceBlob(b"x", stored_gzip(b"x"))))
HEAD = framed_json(head_of([IMAGE]))
SEALS = framed_json(seals_of(HEAD))
STORED = [blob.stored() for blob in blobs_of([IMAGE])]
DIGESTS = [digest(blob.content) for blob in blobs_of([IMAGE])]
PRESENT = [bytes.fromhex(piece_digest(blob)) for blob in STORED]
FULL = archive_of([IMAGE])
START = len(FULL) - sum(map(len, STORED))


def read(data: bytes, size: int | None = None) -> ArchiveIndex:
    return ArchiveIndex.read(io.BytesIO(data), len(data) if size is None else size)


def test_the_blobs_of_a_full_archive_follow_each_other() -> None:
    index = read(FULL)
    assert index.size == len(FULL)
    assert list(index.offsets) == DIGESTS
    for digest_, stored in zip(DIGESTS, STORED, strict=True):
        offset = index.offsets[digest_]
        assert FULL[offset : offset + index.head.blob[digest_].stored_size] == stored
    assert index.absent == ()
    assert index.stored.raw == HEAD


SUBSETS = [[number for number in range(4) if chosen >> number & 1] for chosen in range(16)]


@pytest.mark.parametrize("chosen", SUBSETS, ids=str)
def test_any_blobs_may_be_left_out(chosen: list[int]) -> None:
    data = joined(HEAD, SEALS, [PRESENT[n] for n in chosen], [STORED[n] for n in chosen])
    index = read(data)
    assert list(index.offsets) == [DIGESTS[n] for n in chosen]
    assert [blob.digest for blob in index.absent] == [DIGESTS[n] for n in range(4) if n not in chosen]
    assert index.size == len(data)
    assert archive_start(index.stored, index.seals, [index.head.blobs[n] for n in chosen]) == data[
        : len(data) - sum(len(STORED[n]) for n in chosen)
    ].replace(SEALS, index.seals.to_bytes())


@pytest.mark.parametrize("chosen", SUBSETS, ids=str)
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_a_byte_less_or_more_is_refused(chosen: list[int], difference: int) -> None:
    data = joined(HEAD, SEALS, [PRESENT[n] for n in chosen], [STORED[n] for n in chosen])
    with pytest.raises(CorruptCiphertext, match=rf"has {len(data) + difference} bytes instead of {len(data)}"):
        read(data, len(data) + difference)


ENDS = {
    "magic": 8,
    "H": 12,
    "head": 8 + len(HEAD),
    "S": 12 + len(HEAD),
    "seals": 8 + len(HEAD) + len(SEALS),
    "P": 12 + len(HEAD) + len(SEALS),
    "first digest": START - 3 * 32,
    "present": START,
    "first blob": START + len(STORED[0]),
    "last blob": len(FULL),
}


@pytest.mark.parametrize("beside", [-1, 0, 1])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_cut_at_any_boundary_is_refused(end: int, beside: int) -> None:
    if (kept := end + beside) < len(FULL):
        with pytest.raises(CorruptCiphertext):
            read(FULL[:kept])


def test_each_cut_is_refused() -> None:
    for kept in range(len(FULL)):
        with pytest.raises(CorruptCiphertext):
            read(FULL[:kept])


def listed(digests: list[bytes], announced: int | None = None) -> bytes:
    """Return an archive with any list of blobs, which announces any length."""
    data = joined(HEAD, SEALS, digests, STORED)
    at = ENDS["seals"]
    return data if announced is None else data[:at] + struct.pack(">I", announced) + data[at + 4 :]


WRONG_LISTS = {
    "a byte short": (listed([PRESENT[0], PRESENT[1][:-1]]), "malformed"),
    "a byte long": (listed([PRESENT[0], b"x"]), "malformed"),
    "one byte": (listed([b"x"]), "malformed"),
    "longer than any list": (listed(PRESENT, 4096 * 32 + 32), "malformed"),
    "4 GiB": (listed(PRESENT, 0xFFFF_FFE0), "malformed"),
    "longer than the file": (listed(PRESENT, 4096 * 32), "ends within its list"),
    "unknown digest": (listed([*PRESENT, bytes(32)]), "not that of its head"),
    "unknown digest alone": (listed([bytes(32)]), "not that of its head"),
    "other order": (listed([PRESENT[1], PRESENT[0]]), "not that of its head"),
    "reversed": (listed(PRESENT[::-1]), "not that of its head"),
    "doubled": (listed([PRESENT[0], PRESENT[0]]), "not that of its head"),
    "whole list doubled": (listed(PRESENT * 2), "not that of its head"),
    "digest of content instead of the stored bytes": (
        listed([bytes.fromhex(DIGESTS[0].removeprefix("sha256:"))]),
        "not that of its head",
    ),
}


@pytest.mark.parametrize(("data", "reason"), WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_a_wrong_list_of_blobs_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCiphertext, match=reason):
        read(data)


WRONG_STARTS: dict[str, Callable[[bytes], bytes]] = {
    "format 1": lambda data: b"AZIMAGE1" + data[8:],
    "format 3": lambda data: b"AZIMAGE3" + data[8:],
    "small letters": lambda data: b"azimage2" + data[8:],
    "a model": lambda data: b"AZSMALL2" + data[8:],
    "a byte before": lambda data: b"\0" + data,
    "H in little endian": lambda data: data[:8] + data[8:12][::-1] + data[12:],
    "H a byte less": lambda data: data[:11] + bytes([data[11] - 1]) + data[12:],
    "H a byte more": lambda data: data[:11] + bytes([data[11] + 1]) + data[12:],
    "seals before the head": lambda data: data[:8] + SEALS + HEAD + data[ENDS["seals"] :],
    "no seals": lambda data: data[: ENDS["head"]] + data[ENDS["seals"] :],
}


@pytest.mark.parametrize("change", WRONG_STARTS.values(), ids=WRONG_STARTS)
def test_another_start_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CorruptCiphertext):
        read(change(FULL))


@settings(UNHURRIED, max_examples=100)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"AZIMAGE2" + data) | damaged(FULL))
def test_any_bytes_are_an_archive_or_corrupt(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        try:
            index = ArchiveIndex.read(file, len(data))
        except CorruptCiphertext:
            return
        assert index.size == len(data)
        assert index.stored.raw == data[8 : 8 + len(index.stored.raw)]
