"""Make the test vectors of all formats with the reference implementation and no code of the loader.

    python -m tests.crypto.make_vectors

Salts, nonce prefixes and keys are fixed, so that every run makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.crypto.archive_vectors import archive_vectors, blob_vectors, seals_vectors
from tests.crypto.reference import HEADER, MIB, TAG, ReferenceCipher, pattern
from tests.crypto.reference_archive import piece_digest
from tests.crypto.reference_ed25519 import public_key
from tests.crypto.reference_model import ReferenceModel
from tests.crypto.vectors_format import DIRECTORY, PieceVector, ResourceVector, StreamVector, Vector, written

KEY = bytes(range(32))
LONG_KEY = bytes(range(48))
AD = b"models/day/detector.onnx"
# The private key of TEST 1 of RFC 8032, section 7.1, and another one.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
OTHER_SEED = bytes(range(32, 64))
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


def resource_vectors() -> list[ResourceVector]:
    """Resources of several sizes and signers, and parts that do not belong together."""
    sizes = [0, 100, HEAD - 57, HEAD - 56, HEAD - 55, 3 * MIB]
    short, long = model(100), model(HEAD)
    flipped_big = long.big[:-1] + bytes([long.big[-1] ^ 1])
    return [
        *(resource(f"{size} bytes", "plaintext", model(size), size) for size in sizes),
        resource("no folder", "plaintext", model(100, "a.onnx"), 100),
        resource("one signature", "plaintext", short, 100, [SEED]),
        resource("two signatures", "plaintext", long, HEAD, [SEED, OTHER_SEED]),
        resource("signed for another place", "plaintext", short, 100, [SEED], signed_for="models/night/a.onnx"),
        resource("in another folder", "corrupt", short, 0, served_as="models/night"),
        resource("head cut by a byte", "corrupt", short, 0, change=lambda small: small[:-1]),
        resource("head with a byte added", "corrupt", short, 0, change=lambda small: small + b"\0"),
        resource("big object flipped", "corrupt", replace(long, big=flipped_big), 0),
        resource("big object cut", "corrupt", replace(long, big=long.big[:-1]), 0),
        resource("big object with a byte added", "corrupt", replace(long, big=long.big + b"\0"), 0),
        resource("the form before", "corrupt", short, 0, change=lambda small: b"AZSMALL1" + small[8:]),
    ]


def model(size: int, path: str = "models/day/a.onnx") -> ReferenceModel:
    """A sealed model."""
    return ReferenceModel.seal(path, pattern(size), KEY)


def resource(
    name: str,
    outcome: str,
    sealed: ReferenceModel,
    size: int,
    seeds: Sequence[bytes] = (),
    *,
    signed_for: str | None = None,
    served_as: str | None = None,
    change: Callable[[bytes], bytes] = lambda small: small,
) -> ResourceVector:
    """A vector: `signed_for` is the place that the signatures name, `served_as` the folder where the model is found."""
    folder, _, filename = sealed.path.rpartition("/")
    folder = folder if served_as is None else served_as
    signed = sealed.signed(f"{folder}/{filename}" if folder else filename)
    signers = [public_key(seed).hex() for seed in seeds] if signed_for is None else []
    small = change(sealed.small(seeds, signed_for))
    return ResourceVector(name, outcome, folder, filename, size, signed, signers, small, sealed.big)


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
