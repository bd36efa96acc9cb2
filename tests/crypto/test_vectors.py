"""The reference implementation makes the committed vectors, and the loader agrees with each of them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from loader.binary_split import open_archive
from loader.crypto.archive_head import GZIP, Blob, Head, StoredHead
from loader.crypto.archive_seals import Seals, key_check, root_id
from loader.crypto.blobs import open_blob, seal_blob
from loader.crypto.gzip_members import decompress
from loader.crypto.json_header import JSON_MAX_SIZE, SEALS_MAX_SIZE, read_json
from loader.crypto.model_parts import ResourceName, SmallPart
from loader.crypto.pieces import PIECE_SIZE, PieceDigests
from loader.crypto.signatures import is_valid
from loader.crypto.streaming_aead import DecryptingReader
from loader.errors import ArchiveCorrupt, ArchiveIncomplete, CorruptCiphertext, KeyMismatch
from loader.oci import digest_of
from tests.crypto.archive_vectors import MAC, archive_vectors, blob_vectors, seals_vectors
from tests.crypto.make_vectors import all_vectors, piece_vectors, resource_vectors, stream_vectors
from tests.crypto.reference import pattern
from tests.crypto.streams import read_all
from tests.crypto.vectors_format import (
    DIRECTORY,
    ArchiveVector,
    BlobVector,
    PieceVector,
    ResourceVector,
    SealsVector,
    StreamVector,
    Vector,
    parsed,
    written,
)

STREAMS = parsed((DIRECTORY / "streaming_aead.json").read_text(), stream_vectors())
PIECES = parsed((DIRECTORY / "piece_digest.json").read_text(), piece_vectors())
BLOBS = parsed((DIRECTORY / "archive_blob.json").read_text(), blob_vectors())
SEALS = parsed((DIRECTORY / "archive_seals.json").read_text(), seals_vectors())
ARCHIVES = parsed((DIRECTORY / "archive.json").read_text(), archive_vectors())
RESOURCES = parsed((DIRECTORY / "resource.json").read_text(), resource_vectors())


def named(vector: Vector) -> str:
    return vector.name


def test_the_committed_vectors_are_those_that_the_script_makes() -> None:
    made = {name: written(vectors) for name, vectors in all_vectors().items()}
    assert {path.name: path.read_text() for path in DIRECTORY.iterdir()} == made


@pytest.mark.parametrize("vector", STREAMS, ids=named)
def test_stream(vector: StreamVector) -> None:
    def read() -> bytes:
        source, size = io.BytesIO(vector.ciphertext), len(vector.ciphertext)
        return read_all(DecryptingReader(source, size, vector.key_material, vector.associated_data))

    expect(vector.outcome, vector.plaintext_size, read)


@pytest.mark.parametrize("vector", PIECES, ids=named)
def test_piece_digest(vector: PieceVector) -> None:
    digests = PieceDigests()
    for begin in range(0, vector.size, PIECE_SIZE):
        digests.add(pattern(vector.size)[begin : begin + PIECE_SIZE])
    assert digests.hex() == vector.digest


@pytest.mark.parametrize("vector", BLOBS, ids=named)
def test_blob(vector: BlobVector) -> None:
    blob = Blob.parse(vector.entry)
    assert b"".join(map(bytes, seal_blob([vector.packed], blob.packed, vector.root))) == vector.stored
    assert vector.stored.startswith(vector.header)
    assert read_all(open_blob(io.BytesIO(vector.stored), blob, vector.root)) == vector.packed
    alone = DecryptingReader(io.BytesIO(vector.stored), len(vector.stored), vector.key_material, vector.associated_data)
    assert read_all(alone) == vector.packed

    def content() -> bytes:
        packed = open_blob(io.BytesIO(vector.stored), blob, vector.root)
        return b"".join(map(bytes, decompress(packed, blob.size) if blob.codec == GZIP else packed))

    if vector.outcome == "content":
        assert content() == vector.content
        return
    assert vector.outcome == "corrupt"
    with pytest.raises(CorruptCiphertext, match=re.escape(vector.reason)):
        content()


@pytest.mark.parametrize("vector", SEALS, ids=named)
def test_seals(vector: SealsVector) -> None:
    document, raw = read_json(io.BytesIO(vector.head).read, JSON_MAX_SIZE)
    stored = StoredHead(Head.parse(document), raw)
    seals = Seals.parse(read_json(io.BytesIO(vector.seals).read, SEALS_MAX_SIZE)[0])
    assert (root_id(vector.root), key_check(vector.fragment)) == (vector.root_id, vector.check)
    assert Seals.make(stored, vector.root, vector.fragment).mac == vector.mac
    assert seals.match(vector.fragment) == (vector.outcome != "key mismatch")
    if vector.outcome == "root":
        assert (seals.check, seals.mac) == (vector.check, vector.mac)
        assert seals.open(stored, vector.fragment) == vector.root
        return
    assert vector.outcome in ("corrupt", "key mismatch")
    reason = MAC if vector.outcome == "key mismatch" else vector.reason
    with pytest.raises(CorruptCiphertext, match=re.escape(reason)):
        seals.open(stored, vector.fragment)


@pytest.mark.parametrize("vector", ARCHIVES, ids=named)
def test_archive(vector: ArchiveVector, tmp_path: Path) -> None:
    path = tmp_path / "images.enc"
    path.write_bytes(vector.archive)
    if vector.outcome == "contents":
        assert contents_of(path, vector.fragment) == vector.contents
        return
    refusal = {"corrupt": ArchiveCorrupt, "key mismatch": KeyMismatch, "incomplete": ArchiveIncomplete}[vector.outcome]
    with pytest.raises(refusal, match=re.escape(vector.reason)):
        contents_of(path, vector.fragment)
    if vector.outcome == "incomplete":
        with open_archive(path) as archive:
            assert list(archive.index.offsets) == vector.contents


def contents_of(path: Path, fragment: bytes) -> list[str]:
    """Return the digests of what an archive holds, in the order of the file; each is computed from the content."""
    with open_archive(path) as archive:
        archive.require_complete()
        archive.require_fragment(fragment)
        contents = archive.unseal(fragment, lambda: None)
        for blob in contents.head.blobs:
            assert list(contents.authenticate(blob.digest))[-1:] in ([], [blob.stored_size])
        return [digest_of(b"".join(map(bytes, contents.content(blob.digest)))) for blob in contents.head.blobs]


@pytest.mark.parametrize("vector", RESOURCES, ids=named)
def test_resource(vector: ResourceVector) -> None:
    def read() -> bytes:
        small = SmallPart.from_bytes(vector.small)
        big = io.BytesIO(vector.big) if vector.big else None
        return read_all(small.decrypt(ResourceName(vector.folder, vector.filename), big))

    expect(vector.outcome, vector.plaintext_size, read)
    if vector.outcome == "plaintext":
        small = SmallPart.from_bytes(vector.small)
        named = small.named(ResourceName(vector.folder, vector.filename))
        assert named.signed == vector.signed
        assert [one.key.hex() for one in small.signatures if is_valid(one, named)] == vector.signers


def expect(outcome: str, size: int, read: Any) -> None:
    """Check that `read()` returns the plaintext of that size, or raises CorruptCiphertext."""
    if outcome == "plaintext":
        assert read() == pattern(size)
    else:
        assert outcome == "corrupt"
        with pytest.raises(CorruptCiphertext):
            read()


def damaged_vectors() -> dict[str, dict[str, Any]]:
    """Return files of vectors with one fault each."""
    found = {}
    for what in ("file", "vector", "bytes"):
        document = json.loads(written(STREAMS))
        {"file": document, "vector": document["vectors"][3], "bytes": document["vectors"][3]["ciphertext"]}[what][
            "x"
        ] = 1
        found[f"unknown field of a {what}"] = document
    for field in ("outcome", "ciphertext"):
        document = json.loads(written(STREAMS))
        del document["vectors"][3][field]
        found[f"{field} missing"] = document
    document = json.loads(written(STREAMS))
    document["vectors"][3]["ciphertext"]["hex"] = "00" * document["vectors"][3]["ciphertext"]["size"]
    found["bytes of another digest"] = document
    document = json.loads(written(STREAMS))
    del document["vectors"][3]
    found["a vector missing"] = document
    return found


@pytest.mark.parametrize("document", damaged_vectors().values(), ids=damaged_vectors())
def test_a_vector_file_with_something_else_in_it_fails(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown or missing|other vectors|not those of the digest"):
        parsed(json.dumps(document), STREAMS)
