"""The format of test vectors: JSON in which bytes have size and digest, and hex unless they are long.

A field that is not known here, or missing, is an error: it would be something that no test looks at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

DIRECTORY = Path(__file__).parent / "vectors"
LONGEST_HEX = 4096


@dataclass(frozen=True)
class StreamVector:
    """A streaming ciphertext. `outcome` is `plaintext` or `corrupt`."""

    name: str
    outcome: str
    key_material: bytes
    associated_data: bytes
    plaintext_size: int
    ciphertext: bytes


@dataclass(frozen=True)
class PieceVector:
    """The piece digest of the first `size` bytes of the plaintext. `outcome` is `digest`."""

    name: str
    outcome: str
    size: int
    digest: str


@dataclass(frozen=True)
class BlobVector:
    """One blob of an `images.enc` and all that follows from its root and its packed bytes.

    `outcome` is `content` or `corrupt`, and `reason` is then what the loader says.
    """

    name: str
    outcome: str
    reason: str
    root: bytes
    content: bytes
    codec: str
    packed: bytes
    key_material: bytes
    header: bytes
    associated_data: bytes
    stored: bytes
    entry: dict[str, Any]


@dataclass(frozen=True)
class SealsVector:
    """A head and its seals, both with their lengths, and what follows from fragment and root.

    `outcome` is `root`, `corrupt` or `key mismatch`, and `reason` is then what the loader says.
    """

    name: str
    outcome: str
    reason: str
    fragment: bytes
    root: bytes
    root_id: str
    check: str
    mac: str
    head: bytes
    seals: bytes


@dataclass(frozen=True)
class ArchiveVector:
    """An `images.enc`. `outcome` is `contents`, `corrupt`, `key mismatch` or `incomplete`.

    `reason` is what the loader says about one that it refuses. `contents` has the digests of the blobs that are there.
    """

    name: str
    outcome: str
    reason: str
    fragment: bytes
    contents: list[str]
    archive: bytes


@dataclass(frozen=True)
class ResourceVector:
    """A stored resource; `big` is empty if there is no big object. `outcome` is `plaintext` or `corrupt`.

    `signers` are the public keys, in hex, of those whose signature of `signed` is valid.
    """

    name: str
    outcome: str
    folder: str
    filename: str
    plaintext_size: int
    signed: bytes
    signers: list[str]
    small: bytes
    big: bytes


Vector = StreamVector | PieceVector | BlobVector | SealsVector | ArchiveVector | ResourceVector


def written(vectors: Sequence[Vector]) -> str:
    """The content of a file of vectors."""
    entries = [{field.name: _encoded(getattr(vector, field.name)) for field in fields(vector)} for vector in vectors]
    note = "Plaintexts are the first bytes of SHAKE-256 of `azaion-loader test plaintext`. See make_vectors.py."
    return json.dumps({"note": note, "vectors": entries}, indent=2) + "\n"


def _encoded(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    digest = {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return digest | ({"hex": value.hex()} if len(value) <= LONGEST_HEX else {})


V = TypeVar("V", StreamVector, PieceVector, BlobVector, SealsVector, ArchiveVector, ResourceVector)


def parsed(text: str, remade: Sequence[V]) -> list[V]:
    """Return the vectors of a file. Bytes that it has only as a digest are taken from `remade` by name.

    Raises ValueError for anything that is not as `written` writes it.
    """
    document = json.loads(text)
    if document.keys() != {"note", "vectors"}:
        raise ValueError(f"unknown or missing among {sorted(document)}")
    names = [entry.get("name") for entry in document["vectors"]]
    if names != [vector.name for vector in remade]:
        raise ValueError(f"other vectors than are made: {names}")
    return [_parsed(entry, vector) for entry, vector in zip(document["vectors"], remade, strict=True)]


def _parsed(entry: dict[str, Any], remade: V) -> V:
    names = [field.name for field in fields(remade)]
    if entry.keys() != set(names):
        raise ValueError(f"unknown or missing fields in {sorted(entry)}")
    return type(remade)(**{name: _decoded(entry[name], getattr(remade, name)) for name in names})


def _decoded(value: Any, remade: Any) -> Any:
    if not isinstance(remade, bytes):
        return value
    if not {"size", "sha256"} <= value.keys() <= {"size", "sha256", "hex"}:
        raise ValueError(f"unknown or missing fields in {sorted(value)}")
    data = bytes.fromhex(value["hex"]) if "hex" in value else remade
    if (len(data), hashlib.sha256(data).hexdigest()) != (value["size"], value["sha256"]):
        raise ValueError(f"bytes that are not those of the digest {value['sha256']}")
    return data
