"""The file of a signing key: PKCS #8 in the format PEM, or the same text sealed under a passphrase.

    AZSIGKEY | uint32 BE H | header | sealed | SHA-256 of all before it

The header names the cost and the salt of scrypt (RFC 7914). The digest tells a damaged file from a wrong passphrase.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from Crypto.Random import get_random_bytes

from loader.crypto.json_header import exactly, parse_base64, read_header, require, write_header
from loader.crypto.signatures import SigningKey
from loader.crypto.streaming_aead import DecryptingReader, encrypt
from loader.errors import CorruptCiphertext

MAGIC = b"AZSIGKEY"
LABEL = b"azaion-loader/2 signing key\0"
SALT_SIZE = 16
KEY_SIZE = 32
DIGEST_SIZE = 32
# scrypt takes 128 * r * N bytes of memory: 128 MiB for a new file, and never more than 256 MiB for one that is read.
LOG_N = 17
LOG_N_RANGE = range(14, 18 + 1)
BLOCK_SIZE = 8
PARALLELISM = 1
MEMORY_LIMIT = 257 << 20
# More than any private key of Ed25519 in the format PEM, sealed or not.
MAX_FILE_SIZE = 4096
OTHERS = 0o077

AskPassphrase = Callable[[], str]


class BadSigningKey(ValueError):
    """A file is no signing key that can be used. The text completes "anna.key ..."."""


def seal_signing_key(key: SigningKey, passphrase: str) -> bytes:
    """Return the content of a file that only `passphrase` opens. Takes about a second and 128 MiB."""
    salt = get_random_bytes(SALT_SIZE)
    header = write_header(MAGIC, {"log_n": LOG_N, "salt": base64.b64encode(salt).decode()})
    sealed = encrypt([key.to_pem()], _scrypt(passphrase, LOG_N, salt), LABEL + header)
    data = header + b"".join(map(bytes, sealed))
    return data + hashlib.sha256(data).digest()


def read_signing_key(file: BinaryIO, ask: AskPassphrase | None = None) -> SigningKey:
    """Read a signing key from an open file, as `parse_signing_key` does.

    Raises BadSigningKey, also if others may open the file; OSError; and what `ask` raises.
    """
    if os.fstat(file.fileno()).st_mode & OTHERS:
        raise BadSigningKey("is open to other users, who could have read the key: run chmod 600, or make a new key")
    return parse_signing_key(file.read(MAX_FILE_SIZE + 1), ask)


def parse_signing_key(data: bytes, ask: AskPassphrase | None = None) -> SigningKey:
    """Return the signing key in the content of a file. `ask` is called for the passphrase if the file has one.

    Raises BadSigningKey, also if the key has a passphrase and there is no `ask`, and what `ask` raises.
    """
    if len(data) > MAX_FILE_SIZE:
        raise BadSigningKey(f"is no signing key: it has more than {MAX_FILE_SIZE} bytes")
    if data.startswith(MAGIC):
        data = _opened(data, ask)
    try:
        return SigningKey.parse(data)
    except ValueError as exc:
        raise BadSigningKey(f"is no signing key: {exc}") from exc


def _opened(data: bytes, ask: AskPassphrase | None) -> bytes:
    """Return what was sealed. Raises BadSigningKey, and what `ask` raises."""
    try:
        document, header, ciphertext = _parts(data)
        log_n, salt = _parameters(document)
    except CorruptCiphertext as exc:
        raise BadSigningKey(f"is a damaged signing key: {exc}") from exc
    if ask is None:
        raise BadSigningKey("has a passphrase, and nobody can be asked for it here: use a signing key without one")
    key = _scrypt(ask(), log_n, salt)
    try:
        return b"".join(map(bytes, DecryptingReader(io.BytesIO(ciphertext), len(ciphertext), key, LABEL + header)))
    except CorruptCiphertext:
        # No `from`, because the digest has shown that the bytes are those that were written.
        raise BadSigningKey("does not open with this passphrase") from None


def _parts(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Return the JSON of the header, the header and the ciphertext. Raises CorruptCiphertext."""
    data, digest = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    if hashlib.sha256(data).digest() != digest:
        raise CorruptCiphertext("its digest is wrong")
    document, header = read_header(MAGIC, io.BytesIO(data).read)
    return document, header, data[len(header) :]


def _parameters(document: dict[str, Any]) -> tuple[int, bytes]:
    """Return the cost and the salt. Raises CorruptCiphertext, also for a cost that would take too much memory."""
    log_n, salt = exactly(document, "log_n", "salt")
    require(type(log_n) is int and log_n in LOG_N_RANGE, "log_n")
    return log_n, parse_base64(salt, SALT_SIZE, "salt")


def _scrypt(passphrase: str, log_n: int, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase.encode(),
        salt=salt,
        n=1 << log_n,
        r=BLOCK_SIZE,
        p=PARALLELISM,
        maxmem=MEMORY_LIMIT,
        dklen=KEY_SIZE,
    )
