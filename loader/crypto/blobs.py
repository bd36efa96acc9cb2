"""One blob of `images.enc`: the same bytes under the same root are the same ciphertext, so that releases share blobs.

Key, salt and nonce prefix of a blob follow from the root and from the SHA-256 of the bytes that are sealed. So they
never meet two plaintexts, as long as the packer has hashed exactly these bytes itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loader.crypto.archive_head import Blob, Packed
from loader.crypto.pieces import PieceDigests
from loader.crypto.segments import HEADER_SIZE, KEY_MATERIAL_MIN_SIZE, NONCE_PREFIX_SIZE, SALT_SIZE, hkdf
from loader.crypto.streaming_aead import Buffer, DecryptingReader, Prove, Source, encrypt
from loader.errors import CorruptCiphertext

KEY_INFO = b"azaion-loader/2 blob key\0"
HEADER_INFO = b"azaion-loader/2 blob header\0"
LABEL = b"azaion-loader/2 blob\0"


def seal_blob(pieces: Iterable[Buffer], packed: Packed, root: bytes) -> Iterator[memoryview]:
    """Yield the stored bytes of a blob: its header, then whole segments.

    `pieces` are the packed bytes, whose digest and size the caller has computed from these very bytes. Never give a
    digest that someone else told: two plaintexts under one key and nonce reveal each other.
    """
    header_info = HEADER_INFO + bytes.fromhex(packed.sha256)
    header = bytes([HEADER_SIZE]) + hkdf(root, header_info, SALT_SIZE + NONCE_PREFIX_SIZE)
    return encrypt(pieces, blob_key(packed, root), associated_data(packed), header)


def open_blob(source: Source, blob: Blob, root: bytes, prove: Prove | None = None) -> DecryptingReader:
    """Return a reader of the packed bytes. `source` reads the stored bytes from their start.

    `prove` gets each piece of 1 MiB of the stored bytes before it is decrypted: a segment is exactly one piece.
    """
    return DecryptingReader(
        source, blob.stored_size, blob_key(blob.packed, root), associated_data(blob.packed), prove=prove
    )


def require_stored(blob: Blob, digests: PieceDigests) -> None:
    """Raise CorruptCiphertext unless these are the digests of the stored bytes of `blob`."""
    if digests.hex() != blob.stored:
        raise CorruptCiphertext(f"the blob {blob.digest} is not the one that its head names")


def blob_key(packed: Packed, root: bytes) -> bytes:
    """Return the key material of a blob, 32 bytes."""
    return hkdf(root, KEY_INFO + bytes.fromhex(packed.sha256), KEY_MATERIAL_MIN_SIZE)


def associated_data(packed: Packed) -> bytes:
    """Return the associated data of a blob: it says which packed bytes are sealed, and how many."""
    return LABEL + bytes.fromhex(packed.sha256) + packed.size.to_bytes(8, "big")
