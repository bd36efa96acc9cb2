"""The reference implementation makes the committed vectors, and the loader agrees with each of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.archive import read_archive_header
from loader.crypto.model_parts import ResourceName, SmallPart
from loader.crypto.streaming_aead import DecryptingReader
from loader.errors import CorruptCiphertext
from tests.crypto.make_vectors import all_vectors, archive_vectors, resource_vectors, stream_vectors
from tests.crypto.reference import pattern
from tests.crypto.streams import read_all
from tests.crypto.vectors_format import DIRECTORY, ArchiveVector, ResourceVector, StreamVector, parsed, written

STREAMS = parsed((DIRECTORY / "streaming_aead.json").read_text(), stream_vectors())
ARCHIVES = parsed((DIRECTORY / "archive.json").read_text(), archive_vectors())
RESOURCES = parsed((DIRECTORY / "resource.json").read_text(), resource_vectors())


def named(vector: StreamVector | ArchiveVector | ResourceVector) -> str:
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


@pytest.mark.parametrize("vector", ARCHIVES, ids=named)
def test_archive(vector: ArchiveVector, tmp_path: Path) -> None:
    path = tmp_path / "images.enc"
    path.write_bytes(vector.archive)

    def read() -> bytes:
        with path.open("rb", buffering=0) as file:
            header = read_archive_header(file)
            assert header.matches(vector.fragment) == (vector.outcome != "key mismatch")
            return read_all(header.decrypt(file, vector.fragment))

    expect(vector.outcome, vector.tar_size, read)


@pytest.mark.parametrize("vector", RESOURCES, ids=named)
def test_resource(vector: ResourceVector) -> None:
    def read() -> bytes:
        small = SmallPart.from_bytes(vector.small)
        big = io.BytesIO(vector.big) if vector.big else None
        return read_all(small.decrypt(ResourceName(vector.folder, vector.filename), big))

    expect(vector.outcome, vector.plaintext_size, read)


def expect(outcome: str, size: int, read: Any) -> None:
    """Check that `read()` returns the plaintext of that size, or raises CorruptCiphertext."""
    if outcome == "plaintext":
        assert read() == pattern(size)
    else:
        assert outcome in ("corrupt", "key mismatch")
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
