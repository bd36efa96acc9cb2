"""The seals of `images.enc`: what binds its head and its blobs to a key fragment.

    root     32 random bytes, from which the keys of all blobs follow; sealed under the key fragment
    mac      authenticates the head with the key fragment
    check    recognises the key fragment

The same root may be sealed under another fragment: head and blobs then stay as they are. Signatures of the head stand
beside these; they do not depend on the fragment.
"""

from __future__ import annotations

import hmac
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from Crypto.Random import get_random_bytes

from loader.crypto.archive_head import StoredHead
from loader.crypto.json_header import (
    SEALS_MAX_SIZE,
    Signature,
    exactly,
    is_text,
    parse_base64,
    parse_signatures,
    require,
    signature_documents,
    to_base64,
    write_json,
)
from loader.crypto.segments import ciphertext_size, hkdf
from loader.crypto.streaming_aead import DecryptingReader, encrypt
from loader.errors import CorruptCiphertext

FRAGMENT_MIN_SIZE = 32
FRAGMENT_MAX_SIZE = 4096
ROOT_SIZE = 32
ROOT_ID_SIZE = 16
SEALED_ROOT_SIZE = ciphertext_size(ROOT_SIZE)
KEY_CHECK_SIZE = 8
MAC_KEY_SIZE = 32

KEY_CHECK_INFO = b"azaion-loader key check v1"
ROOT_ID_INFO = b"azaion-loader/2 root id"
ROOT_LABEL = b"azaion-loader/2 root\0"
MAC_KEY_INFO = b"azaion-loader/2 mac"
HEAD_LABEL = b"azaion-loader/2 head\0"

_KEY_CHECK = re.compile(r"[0-9a-f]{16}")
_MAC = re.compile(r"[0-9a-f]{64}")


def new_root() -> bytes:
    """Return the random root of a new line of archives. Archives with one root share blobs."""
    return get_random_bytes(ROOT_SIZE)


def root_id(root: bytes) -> str:
    """Return the 32 hex digits by which a head names its root. They tell nothing else about it."""
    return hkdf(root, ROOT_ID_INFO, ROOT_ID_SIZE).hex()


def key_check(fragment: bytes) -> str:
    """Return the 16 hex digits by which an archive recognises its key fragment. They tell nothing else about it."""
    return hkdf(fragment, KEY_CHECK_INFO, KEY_CHECK_SIZE).hex()


@dataclass(frozen=True)
class Seals:
    """The seals of one head. `check` and `mac` are hex digits, `root` is the sealed root."""

    check: str
    root: bytes = field(repr=False)
    mac: str
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def make(cls, stored: StoredHead, root: bytes, fragment: bytes) -> Seals:
        """Seal `root` under `fragment` and authenticate the head, which must name that root."""
        label = ROOT_LABEL + stored.head.root_id.encode()
        sealed_root = b"".join(map(bytes, encrypt([root], fragment, label)))
        return cls(key_check(fragment), sealed_root, _mac(stored, fragment))

    def to_bytes(self) -> bytes:
        """Return uint32 BE S and the seals as they are stored."""
        key = {"check": self.check, "root": to_base64(self.root)}
        document = {"key": key, "mac": self.mac, "signatures": signature_documents(self.signatures)}
        return write_json(document, SEALS_MAX_SIZE)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Seals:
        """Parse a JSON object. Raises CorruptCiphertext for anything that the format does not allow."""
        key, mac, signatures = exactly(document, "key", "mac", "signatures")
        require(isinstance(key, dict), "key")
        check, root = exactly(key, "check", "root")
        require(is_text(check, _KEY_CHECK), "check")
        require(is_text(mac, _MAC), "mac")
        return cls(check, parse_base64(root, SEALED_ROOT_SIZE, "root"), mac, parse_signatures(signatures))

    def match(self, fragment: bytes) -> bool:
        """Return whether the archive was sealed with `fragment`, as far as `check` tells."""
        return FRAGMENT_MIN_SIZE <= len(fragment) <= FRAGMENT_MAX_SIZE and key_check(fragment) == self.check

    def open(self, stored: StoredHead, fragment: bytes) -> bytes:
        """Return the root, once head and root are proven to be what the owner of `fragment` sealed.

        Raises CorruptCiphertext.
        """
        if not hmac.compare_digest(_mac(stored, fragment), self.mac):
            raise CorruptCiphertext("its head does not authenticate")
        label = ROOT_LABEL + stored.head.root_id.encode()
        try:
            root = _joined(DecryptingReader(io.BytesIO(self.root), SEALED_ROOT_SIZE, fragment, label))
        except CorruptCiphertext as exc:
            raise CorruptCiphertext("its root does not authenticate") from exc
        if root_id(root) != stored.head.root_id:
            raise CorruptCiphertext("its root is another one than its head names")
        return root


def _mac(stored: StoredHead, fragment: bytes) -> str:
    key = hkdf(fragment, MAC_KEY_INFO, MAC_KEY_SIZE)
    return hmac.digest(key, HEAD_LABEL + stored.raw, "sha256").hex()


def _joined(pieces: Iterable[memoryview]) -> bytes:
    return b"".join(map(bytes, pieces))
