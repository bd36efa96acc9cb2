"""A second implementation of `images.enc`, written from docs/formats.md and sharing no code with the loader.

It seals whatever it is given, also what an honest packer never seals, so that forgeries are properly authenticated.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.crypto.reference import MIB, ReferenceCipher, hkdf_sha256

FRAGMENT = bytes(range(64, 96))
ROOT = bytes(range(160, 192))
CREATED = "2026-03-01T12:00:00Z"
BUILT = "2026-02-28T08:00:00.5Z"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def digest(data: bytes) -> str:
    """Return the digest of `data` as OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def piece_digest(stored: bytes) -> str:
    """Return SHA-256 over the SHA-256 digests of the pieces of 1 MiB, in hex."""
    pieces = (stored[begin : begin + MIB] for begin in range(0, len(stored), MIB))
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()


def root_id(root: bytes) -> str:
    """Return the name of a root."""
    return hkdf_sha256(root, b"", b"azaion-loader/2 root id", 16).hex()


def key_check(fragment: bytes) -> str:
    """Return what recognises a key fragment."""
    return hkdf_sha256(fragment, b"", b"azaion-loader key check v1", 8).hex()


def stored_gzip(content: bytes) -> bytes:
    """Return one gzip member (RFC 1952) of one stored block (RFC 1951, section 3.2.4), which no zlib build changes."""
    block = struct.pack("<BHH", 1, len(content), len(content) ^ 0xFFFF) + content
    return bytes.fromhex("1f8b08000000000000ff") + block + struct.pack("<II", zlib.crc32(content), len(content))


@dataclass(frozen=True)
class ReferenceBlob:
    """One blob: its content, and the bytes that are sealed if the codec is gzip."""

    content: bytes
    gzip: bytes | None = None

    @property
    def packed(self) -> bytes:
        """The bytes that are sealed."""
        return self.content if self.gzip is None else self.gzip

    @property
    def associated_data(self) -> bytes:
        """The associated data of the ciphertext."""
        packed = self.packed
        return b"azaion-loader/2 blob\0" + hashlib.sha256(packed).digest() + struct.pack(">Q", len(packed))

    def cipher(self, root: bytes) -> ReferenceCipher:
        """Return the cipher of the blob, whose key material and header follow from the root and the packed bytes."""
        packed = hashlib.sha256(self.packed).digest()
        material = hkdf_sha256(root, b"", b"azaion-loader/2 blob key\0" + packed, 32)
        header = hkdf_sha256(root, b"", b"azaion-loader/2 blob header\0" + packed, 39)
        return ReferenceCipher(material, self.associated_data, header[:32], header[32:])

    def stored(self, root: bytes = ROOT) -> bytes:
        """Return the bytes of the blob in an archive."""
        return self.cipher(root).seal(self.packed)

    def entry(self, root: bytes = ROOT) -> dict[str, Any]:
        """Return the entry of the head."""
        return {
            "digest": digest(self.content),
            "size": len(self.content),
            "codec": "none" if self.gzip is None else "gzip",
            "packed": {"sha256": hashlib.sha256(self.packed).hexdigest(), "size": len(self.packed)},
            "stored": piece_digest(self.stored(root)),
        }


@dataclass(frozen=True)
class ReferenceImage:
    """An image of layers with any content."""

    reference: str
    layers: tuple[ReferenceBlob, ...]

    @property
    def config(self) -> ReferenceBlob:
        """The configuration."""
        diff_ids = [digest(layer.content) for layer in self.layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return _json_blob({"architecture": "arm64", "os": "linux", "created": BUILT, "rootfs": rootfs})

    @property
    def manifest(self) -> ReferenceBlob:
        """The manifest."""
        config = _descriptor(CONFIG_TYPE, self.config)
        layers = [_descriptor(LAYER_TYPE, layer) for layer in self.layers]
        return _json_blob({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers})

    @property
    def blobs(self) -> tuple[ReferenceBlob, ...]:
        """All blobs of the image."""
        return (self.manifest, self.config, *self.layers)

    def entry(self) -> dict[str, Any]:
        """Return the entry of the head, in its full form."""
        return {
            "reference": self.reference,
            "platform": "linux/arm64",
            "created": BUILT,
            "manifest": digest(self.manifest.content),
            "config": digest(self.config.content),
            "layers": [digest(layer.content) for layer in self.layers],
        }


def blobs_of(images: Iterable[ReferenceImage]) -> list[ReferenceBlob]:
    """Return each blob of `images` once."""
    return list({blob.content: blob for image in images for blob in image.blobs}.values())


def head_of(images: Sequence[ReferenceImage], root: bytes = ROOT) -> dict[str, Any]:
    """Return the head of `images`; every call makes a new one."""
    return {
        "format": 2,
        "release": {"version": "1.4.2", "serial": 7, "created": CREATED},
        "root_id": root_id(root),
        "images": [image.entry() for image in images],
        "blobs": [blob.entry(root) for blob in blobs_of(images)],
    }


def framed_json(document: dict[str, Any]) -> bytes:
    """Return uint32 and JSON."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


def mac_of(framed_head: bytes, fragment: bytes) -> str:
    """Return the MAC of a head with its length, in hex."""
    key = hkdf_sha256(fragment, b"", b"azaion-loader/2 mac", 32)
    return hmac.digest(key, b"azaion-loader/2 head\0" + framed_head, "sha256").hex()


def sealed_root(named: str, root: bytes, fragment: bytes) -> bytes:
    """Return `root` sealed under `fragment` for a head that names the root `named`."""
    return ReferenceCipher(fragment, b"azaion-loader/2 root\0" + named.encode("ascii")).seal(root)


def seals_of(framed_head: bytes, root: bytes = ROOT, fragment: bytes = FRAGMENT) -> dict[str, Any]:
    """Return the seals of a head with its length; every call makes new ones."""
    named = json.loads(framed_head[4:])["root_id"]
    sealed = base64.b64encode(sealed_root(named, root, fragment)).decode()
    key = {"check": key_check(fragment), "root": sealed}
    return {"key": key, "mac": mac_of(framed_head, fragment), "signatures": []}


def joined(framed_head: bytes, framed_seals: bytes, present: Sequence[bytes], stored: Iterable[bytes]) -> bytes:
    """Return an archive of these parts, which need not belong together."""
    digests = b"".join(present)
    return b"AZIMAGE2" + framed_head + framed_seals + struct.pack(">I", len(digests)) + digests + b"".join(stored)


def assembled(head: dict[str, Any], stored: Sequence[bytes], root: bytes = ROOT, fragment: bytes = FRAGMENT) -> bytes:
    """Return an archive with authentic seals of any head and any stored blobs, all of which are present."""
    framed_head = framed_json(head)
    present = [bytes.fromhex(piece_digest(blob)) for blob in stored]
    return joined(framed_head, framed_json(seals_of(framed_head, root, fragment)), present, stored)


def archive_of(images: Sequence[ReferenceImage], root: bytes = ROOT, fragment: bytes = FRAGMENT) -> bytes:
    """Return the full archive of `images`."""
    return assembled(head_of(images, root), [blob.stored(root) for blob in blobs_of(images)], root, fragment)


def _json_blob(document: dict[str, Any]) -> ReferenceBlob:
    return ReferenceBlob(json.dumps(document, separators=(",", ":")).encode())


def _descriptor(media_type: str, blob: ReferenceBlob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(blob.content), "size": len(blob.content)}
