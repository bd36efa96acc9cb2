"""Make the test vectors of all formats with the reference implementation and no code of the loader.

    python -m tests.crypto.make_vectors

Salts, nonce prefixes and keys are fixed, so that every run makes the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from tests.crypto.archive_vectors import archive_vectors, blob_vectors, seals_vectors
from tests.crypto.reference import HEADER, MIB, TAG, ReferenceCipher, pattern
from tests.crypto.reference_archive import piece_digest
from tests.crypto.vectors_format import DIRECTORY, PieceVector, ResourceVector, StreamVector, Vector, written

KEY = bytes(range(32))
LONG_KEY = bytes(range(48))
AD = b"models/day/detector.onnx"
FIRST = MIB - HEADER - TAG
HEAD = 65_536


def stream_vectors() -> list[StreamVector]:
    """Plaintexts around the size of a segment, keys and associated data of several lengths, and damage."""
    sizes = [0, 1, 15, 16, 17, 300, FIRST - 1, FIRST, FIRST + 1, FIRST + MIB - TAG, FIRST + MIB - TAG + 1, 3 * MIB]
    good = [stream(f"{size} bytes", "plaintext", size) for size in sizes]
    good += [
        stream("no associated data", "plaintext", 16, associated_data=b""),
        stream("key material of 48 bytes", "plaintext", 16, key_material=LONG_KEY),
    ]
    cipher, text = ReferenceCipher(KEY, AD), pattern(16)
    whole = cipher.seal(text)
    damaged = {
        "empty": b"",
        "header alone": whole[:HEADER],
        "no tag": whole[: HEADER + TAG - 1],
        "last byte cut off": whole[:-1],
        "last byte flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "first byte of the text flipped": whole[:HEADER] + bytes([whole[HEADER] ^ 0x80]) + whole[HEADER + 1 :],
        "first byte of the header is 0x29": b"\x29" + whole[1:],
        "salt changed": whole[:1] + bytes([whole[1] ^ 1]) + whole[2:],
        "nonce prefix changed": whole[: HEADER - 1] + bytes([whole[HEADER - 1] ^ 1]) + whole[HEADER:],
        "a byte added": whole + b"\0",
        "last segment not marked as last": cipher.header + cipher.segment(0, False, text),
        "segments counted from 1": cipher.header + cipher.segment(1, True, text),
        "sealed for another place": ReferenceCipher(KEY, AD + b".old").seal(text),
        "sealed with another key": ReferenceCipher(LONG_KEY, AD).seal(text),
        "cut between two segments": cipher.seal(pattern(2 * MIB))[:MIB],
    }
    return good + [StreamVector(name, "corrupt", KEY, AD, 0, data) for name, data in damaged.items()]


def stream(name: str, outcome: str, size: int, key_material: bytes = KEY, associated_data: bytes = AD) -> StreamVector:
    """A vector of `size` bytes of plaintext."""
    ciphertext = ReferenceCipher(key_material, associated_data).seal(pattern(size))
    return StreamVector(name, outcome, key_material, associated_data, size, ciphertext)


def piece_vectors() -> list[PieceVector]:
    """Sizes around one and more pieces of 1 MiB."""
    sizes = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 7]
    return [PieceVector(f"{size} bytes", "digest", size, piece_digest(pattern(size))) for size in sizes]


def json_header(magic: bytes, document: dict[str, object]) -> bytes:
    """Magic, length and JSON."""
    body = json.dumps(document).encode()
    return magic + len(body).to_bytes(4, "big") + body


def resource_vectors() -> list[ResourceVector]:
    """Resources without a big object, with the smallest and with a long one, and parts that do not belong together."""
    sizes = [0, 100, HEAD - 57, HEAD - 56, HEAD - 55, 3 * MIB]
    good = [
        ResourceVector(f"{size} bytes", "plaintext", "models/day", "a.onnx", size, *resource(size)) for size in sizes
    ]
    small, big = resource(100)
    head, rest = resource(HEAD)
    return [
        *good,
        ResourceVector("no folder", "plaintext", "", "a.onnx", 100, *resource(100, b"a.onnx")),
        ResourceVector("in another folder", "corrupt", "models/night", "a.onnx", 0, small, big),
        ResourceVector("head cut by a byte", "corrupt", "models/day", "a.onnx", 0, small[:-1], big),
        ResourceVector("head with a byte added", "corrupt", "models/day", "a.onnx", 0, small + b"\0", big),
        ResourceVector(
            "big object flipped", "corrupt", "models/day", "a.onnx", 0, head, rest[:-1] + bytes([rest[-1] ^ 1])
        ),
        ResourceVector("big object cut", "corrupt", "models/day", "a.onnx", 0, head, rest[:-1]),
        ResourceVector("big object with a byte added", "corrupt", "models/day", "a.onnx", 0, head, rest + b"\0"),
    ]


def resource(size: int, associated_data: bytes = b"models/day/a.onnx") -> tuple[bytes, bytes]:
    """Small and big object."""
    ciphertext = ReferenceCipher(KEY, associated_data).seal(pattern(size))
    head, rest = ciphertext[:HEAD], ciphertext[HEAD:]
    big = {"size": len(rest), "sha256": hashlib.sha256(rest).hexdigest()} if rest else None
    return json_header(b"AZSMALL1", {"key": base64.b64encode(KEY).decode(), "size": size, "big": big}) + head, rest


def all_vectors() -> dict[str, Sequence[Vector]]:
    """The vectors of each file."""
    return {
        "streaming_aead.json": stream_vectors(),
        "piece_digest.json": piece_vectors(),
        "archive_blob.json": blob_vectors(),
        "archive_seals.json": seals_vectors(),
        "archive.json": archive_vectors(),
        "resource.json": resource_vectors(),
    }


if __name__ == "__main__":
    for name, vectors in all_vectors().items():
        (DIRECTORY / name).write_text(written(vectors))
