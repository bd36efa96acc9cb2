"""`images.enc`: its bytes made by hand, the sizes that must agree, and the key's own check."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.archive import ArchiveHeader, read_archive_header, seal_archive
from loader.crypto.segments import SEGMENT_SIZE, ciphertext_size
from loader.errors import CorruptCiphertext
from tests.crypto.hostile_json import damaged
from tests.crypto.manifests import FRAGMENT, KEY_CHECK, document, framed, manifest
from tests.crypto.reference import ReferenceCipher, pattern
from tests.crypto.streams import UNHURRIED, collect, read_all, read_to_failure

MAGIC = b"AZIMAGE1"
TAR = pattern(2 * SEGMENT_SIZE)


def header_of(described: dict[str, Any] | bytes) -> bytes:
    return framed(MAGIC, described)


def archive_of(tar: bytes, fragment: bytes = FRAGMENT) -> bytes:
    """A whole archive, put together by hand."""
    header = header_of(document(len(tar)))
    return header + ReferenceCipher(fragment, header).seal(tar)


def parse(data: bytes) -> ArchiveHeader:
    return ArchiveHeader.read(io.BytesIO(data))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "images.enc"
    path.write_bytes(archive_of(TAR))
    return path


def test_an_archive_made_by_hand_is_read(written: Path) -> None:
    with written.open("rb", buffering=0) as file:
        header = read_archive_header(file)
        assert header.manifest == manifest(len(TAR))
        assert header.raw == header_of(document(len(TAR)))
        assert header.archive_size == written.stat().st_size
        assert file.tell() == len(header.raw)
        assert header.matches(FRAGMENT)
        assert read_all(header.decrypt(file, FRAGMENT)) == TAR


@pytest.mark.parametrize("size", [0, 1, 10_240, len(TAR)])
def test_an_archive_has_exactly_the_documented_bytes(size: int) -> None:
    pieces = [bytes(piece) for piece in seal_archive(manifest(size), [TAR[:size]], FRAGMENT)]
    header = pieces[0]
    assert header[:8] == b"AZIMAGE1"
    assert int.from_bytes(header[8:12], "big") == len(header) - 12
    assert json.loads(header[12:]) == document(size)
    ciphertext = b"".join(pieces[1:])
    reference = ReferenceCipher(FRAGMENT, header, ciphertext[1:33], ciphertext[33:40])
    assert ciphertext == reference.seal(TAR[:size])


@pytest.mark.parametrize("difference", [-1, 1, SEGMENT_SIZE])
def test_a_tar_of_another_size_than_announced_is_refused(difference: int) -> None:
    written = bytearray()
    with pytest.raises(ValueError, match=f"has {len(TAR)} bytes instead of {len(TAR) + difference}"):
        collect(seal_archive(manifest(len(TAR) + difference), [TAR], FRAGMENT), written)
    header = parse(bytes(written))
    failed = read_to_failure(lambda: header.decrypt(io.BytesIO(bytes(written[len(header.raw) :])), FRAGMENT))
    assert isinstance(failed.failure, CorruptCiphertext)


def test_a_tar_that_fails_leaves_no_segment() -> None:
    def failing() -> Iterator[bytes]:
        yield TAR[:10]
        raise OSError("the engine is gone")

    written = bytearray()
    with pytest.raises(OSError, match="the engine is gone"):
        collect(seal_archive(manifest(10), failing(), FRAGMENT), written)
    assert len(written) == len(parse(bytes(written)).raw) + 40  # the header of the ciphertext and no segment


def test_a_changed_manifest_makes_the_first_segment_fail() -> None:
    archive = archive_of(b"a tar")
    for position in range(len(header_of(document(5)))):
        tampered = bytearray(archive)
        tampered[position] ^= 1
        stream = io.BytesIO(tampered)
        try:
            header = ArchiveHeader.read(stream)
        except CorruptCiphertext:
            continue
        failed = read_to_failure(partial(header.decrypt, stream, FRAGMENT))
        assert isinstance(failed.failure, CorruptCiphertext)
        assert failed.released == []


WRONG_SIZES = {
    "cut by a byte": lambda data: data[:-1],
    "cut at a segment": lambda data: data[: len(header_of(document(len(TAR)))) + SEGMENT_SIZE],
    "without ciphertext": lambda data: data[: len(header_of(document(len(TAR))))],
    "a byte added": lambda data: data + b"\0",
    "twice": lambda data: data + data,
}


@pytest.mark.parametrize("change", WRONG_SIZES.values(), ids=WRONG_SIZES)
def test_a_file_of_another_size_than_its_manifest_says_is_refused(written: Path, change: Any) -> None:
    written.write_bytes(change(written.read_bytes()))
    with written.open("rb") as file, pytest.raises(CorruptCiphertext, match=r"has \d+ bytes instead of \d+"):
        read_archive_header(file)


@pytest.mark.parametrize("difference", [-1, 1, SEGMENT_SIZE, (1 << 52) - 1 - len(TAR)])
def test_a_tar_size_that_disagrees_with_the_file_is_refused(written: Path, difference: int) -> None:
    ciphertext = ReferenceCipher(FRAGMENT, b"").seal(TAR)
    written.write_bytes(header_of(document(len(TAR) + difference)) + ciphertext)
    with written.open("rb") as file, pytest.raises(CorruptCiphertext, match="instead of"):
        read_archive_header(file)


def test_archive_size_is_header_plus_ciphertext() -> None:
    header = parse(header_of(document(3_000_000)))
    assert header.archive_size == len(header.raw) + ciphertext_size(3_000_000) == len(header.raw) + 3_000_088


WRONG_FRAGMENTS = {
    "another": bytes(32),
    "one bit": FRAGMENT[:-1] + bytes([FRAGMENT[-1] ^ 1]),
    "longer": FRAGMENT + b"\n",
    "shorter": FRAGMENT[:-1],
    "empty": b"",
}


@pytest.mark.parametrize("fragment", WRONG_FRAGMENTS.values(), ids=WRONG_FRAGMENTS)
def test_a_wrong_fragment_does_not_match(fragment: bytes) -> None:
    assert not parse(header_of(document())).matches(fragment)


@pytest.mark.parametrize(("size", "allowed"), [(31, False), (32, True), (4096, True), (4097, False)])
def test_a_fragment_has_32_to_4096_bytes(size: int, allowed: bool) -> None:
    fragment = pattern(size)
    assert ArchiveHeader(manifest(5, fragment), b"").matches(fragment) is allowed


def test_key_check_in_the_manifest_is_the_documented_one() -> None:
    assert document()["key_check"] == KEY_CHECK == manifest(5).key_check


def parse_or_refuse(data: bytes) -> None:
    """Parse `data`; CorruptCiphertext is the only error allowed."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        try:
            header = read_archive_header(file)
        except CorruptCiphertext:
            return
        assert data.startswith(header.raw)
        assert len(data) == header.archive_size


@settings(UNHURRIED, max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(header_of) | damaged(archive_of(b"a tar")))
def test_any_bytes_are_an_archive_or_corrupt(data: bytes) -> None:
    parse_or_refuse(data)
