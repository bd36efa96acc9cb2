"""Tink reads what the loader writes, and the loader reads what Tink writes: streams, roots, blobs and resources."""

from __future__ import annotations

import hashlib
import io
import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
import tink

from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import Blob, Head, Packed, StoredHead
from loader.crypto.archive_seals import Seals
from loader.crypto.blobs import open_blob, seal_blob
from loader.crypto.json_header import JSON_MAX_SIZE, read_json
from loader.crypto.model_parts import HEAD_SIZE, ResourceName, SmallPart
from tests.crypto.reference import hkdf_sha256, pattern
from tests.crypto.reference_archive import ROOT, ReferenceBlob, ReferenceImage, framed_json, head_of, seals_of
from tests.crypto.reference_model import model_document, small_object
from tests.crypto.streams import AD, BOUNDARY_SIZES, KEY, read_all, seal, unseal
from tests.crypto.tink_peer import TinkPeer
from tests.support import handmade_image
from tests.support.handmade_image import HandmadeImage, HandmadeLayer
from tests.support.sealed_objects import seal_resource

NAME = ResourceName("models/day", "detector.onnx")

# Tink accepts key material of 32 bytes and more, as the loader accepts key fragments.
FRAGMENT_SIZES = [32, 33, 4096]


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_tink_reads_our_stream(size: int) -> None:
    assert TinkPeer(KEY).unseal(seal(pattern(size)), AD) == pattern(size)


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_we_read_tinks_stream(size: int) -> None:
    ciphertext = TinkPeer(KEY).seal(pattern(size), AD)
    assert unseal(ciphertext) == pattern(size)


def test_tink_refuses_what_we_sealed_for_another_place() -> None:
    with pytest.raises(tink.TinkError):
        TinkPeer(KEY).unseal(seal(b"text"), AD + b"x")


def blob_peer(packed: bytes, root: bytes = ROOT) -> tuple[TinkPeer, bytes]:
    """Return Tink with the key material of a blob, and its associated data, both as docs/formats.md describes them."""
    digest = hashlib.sha256(packed).digest()
    material = hkdf_sha256(root, b"", b"azaion-loader/2 blob key\0" + digest, 32)
    return TinkPeer(material), b"azaion-loader/2 blob\0" + digest + len(packed).to_bytes(8, "big")


def packed_of(data: bytes) -> Packed:
    return Packed(hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_tink_reads_our_blob(size: int) -> None:
    stored = b"".join(map(bytes, seal_blob([pattern(size)], packed_of(pattern(size)), ROOT)))
    peer, associated_data = blob_peer(pattern(size))
    assert peer.unseal(stored, associated_data) == pattern(size)


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_we_read_tinks_blob(size: int) -> None:
    """Tink draws a header at random; a reader takes it from the file, whatever it is."""
    peer, associated_data = blob_peer(pattern(size))
    stored = peer.seal(pattern(size), associated_data)
    blob = Blob("sha256:" + "0a" * 32, size, "none", packed_of(pattern(size)), "0b" * 32)
    assert read_all(open_blob(io.BytesIO(stored), blob, ROOT)) == pattern(size)


def test_tink_refuses_our_blob_as_another() -> None:
    stored = b"".join(map(bytes, seal_blob([b"text"], packed_of(b"text"), ROOT)))
    for peer, associated_data in (blob_peer(b"texT"), blob_peer(b"text", bytes(32))):
        with pytest.raises(tink.TinkError):
            peer.unseal(stored, associated_data)


IMAGE = ReferenceImage("a.b/c:1", (ReferenceBlob(pattern(100)),))
ROOT_LABEL = b"azaion-loader/2 root\0"


def stored_head() -> StoredHead:
    raw = framed_json(head_of([IMAGE]))
    return StoredHead(Head.parse(read_json(io.BytesIO(raw).read, JSON_MAX_SIZE)[0]), raw)


@pytest.mark.parametrize("fragment_size", FRAGMENT_SIZES)
def test_tink_reads_our_root(fragment_size: int) -> None:
    fragment, stored = pattern(fragment_size), stored_head()
    sealed = Seals.make(stored, ROOT, fragment).root
    assert TinkPeer(fragment).unseal(sealed, ROOT_LABEL + stored.head.root_id.encode()) == ROOT


@pytest.mark.parametrize("fragment_size", FRAGMENT_SIZES)
def test_we_read_tinks_root(fragment_size: int) -> None:
    fragment, stored = pattern(fragment_size), stored_head()
    sealed = TinkPeer(fragment).seal(ROOT, ROOT_LABEL + stored.head.root_id.encode())
    seals = replace(Seals.parse(seals_of(stored.raw, fragment=fragment)), root=sealed)
    assert seals.open(stored, fragment) == ROOT


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_tink_reads_every_blob_of_our_archive(tmp_path: Path, codec: str) -> None:
    image = HandmadeImage("app:1", (HandmadeLayer(pattern(3 << 20)), HandmadeLayer(b"a", 99)))
    path = handmade_image.seal(tmp_path / "images.enc", [image], codec=codec)
    data = path.read_bytes()
    index = ArchiveIndex.read(io.BytesIO(data), len(data))
    label = ROOT_LABEL + index.head.root_id.encode()
    root = TinkPeer(handmade_image.FRAGMENT).unseal(index.seals.root, label)
    for blob in index.head.blobs:
        digest = bytes.fromhex(blob.packed.sha256)
        peer = TinkPeer(hkdf_sha256(root, b"", b"azaion-loader/2 blob key\0" + digest, 32))
        offset = index.offsets[blob.digest]
        label = b"azaion-loader/2 blob\0" + digest + blob.packed.size.to_bytes(8, "big")
        packed = peer.unseal(data[offset : offset + blob.stored_size], label)
        assert packed_of(packed) == blob.packed


RESOURCE_SIZES = [0, 1, HEAD_SIZE - 57, HEAD_SIZE - 56, HEAD_SIZE - 55, 1_048_520, 1_048_521, 3_670_016]


@pytest.mark.parametrize("size", RESOURCE_SIZES)
def test_tink_reads_our_resource(size: int) -> None:
    big = io.BytesIO()
    small = seal_resource([pattern(size)], NAME, big).to_bytes()
    end = 12 + int.from_bytes(small[8:12], "big")
    described = json.loads(small[12:end])
    begin = end + 4 + int.from_bytes(small[end : end + 4], "big")
    key = TinkPeer(b64decode(described["key"]))
    assert key.unseal(small[begin:] + big.getvalue(), b"models/day/detector.onnx") == pattern(size)


@pytest.mark.parametrize("size", RESOURCE_SIZES)
def test_we_read_a_resource_that_was_made_with_tink(size: int) -> None:
    ciphertext = TinkPeer(KEY).seal(pattern(size), b"models/day/detector.onnx")
    head, rest = ciphertext[:65_536], ciphertext[65_536:]
    small = small_object(model_document(size, rest, KEY), head)
    reader = SmallPart.from_bytes(small).decrypt(NAME, io.BytesIO(rest) if rest else None)
    assert read_all(reader) == pattern(size)
