"""Tink reads what the loader writes, and the loader reads what Tink writes: streams, archives and resources."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
import tink

from loader.crypto.archive import read_archive_header, seal_archive
from loader.crypto.model_parts import HEAD_SIZE, ResourceName, SmallPart, seal_resource
from tests.crypto.manifests import FRAGMENT, document, framed, manifest
from tests.crypto.reference import pattern
from tests.crypto.streams import AD, BOUNDARY_SIZES, KEY, read_all, seal, unseal
from tests.crypto.tink_peer import TinkPeer

NAME = ResourceName("models/day", "detector.onnx")
FORMATS_MD = Path(__file__).parents[2] / "docs" / "formats.md"

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


@pytest.mark.parametrize("size", [0, 10_240, 3_670_016])
@pytest.mark.parametrize("fragment_size", FRAGMENT_SIZES)
def test_tink_reads_our_archive(fragment_size: int, size: int) -> None:
    fragment = pattern(fragment_size)
    archive = b"".join(bytes(piece) for piece in seal_archive(manifest(size, fragment), [pattern(size)], fragment))
    begin = 12 + int.from_bytes(archive[8:12], "big")
    assert TinkPeer(fragment).unseal(archive[begin:], archive[:begin]) == pattern(size)


@pytest.mark.parametrize("size", [0, 10_240, 3_670_016])
@pytest.mark.parametrize("fragment_size", FRAGMENT_SIZES)
def test_we_read_an_archive_that_was_made_with_tink(fragment_size: int, size: int, tmp_path: Path) -> None:
    fragment = pattern(fragment_size)
    described = document(size) | {"key_check": manifest(size, fragment).key_check}
    header = framed(b"AZIMAGE1", json.dumps(described, indent=4).encode())
    path = tmp_path / "images.enc"
    path.write_bytes(header + TinkPeer(fragment).seal(pattern(size), header))
    with path.open("rb") as file:
        read = read_archive_header(file)
        assert read.matches(fragment)
        assert read_all(read.decrypt(file, fragment)) == pattern(size)


def test_an_archive_with_a_manifest_of_a_megabyte(tmp_path: Path) -> None:
    """The associated data, which HKDF takes as its info, is far longer than a name here."""
    described = json.dumps(document(5)).encode()
    header = framed(b"AZIMAGE1", described + b" " * ((1 << 20) - len(described)))
    path = tmp_path / "images.enc"
    path.write_bytes(header + TinkPeer(FRAGMENT).seal(b"a tar", header))
    with path.open("rb") as file:
        assert read_all(read_archive_header(file).decrypt(file, FRAGMENT)) == b"a tar"


RESOURCE_SIZES = [0, 1, HEAD_SIZE - 57, HEAD_SIZE - 56, HEAD_SIZE - 55, 1_048_520, 1_048_521, 3_670_016]


@pytest.mark.parametrize("size", RESOURCE_SIZES)
def test_tink_reads_our_resource(size: int) -> None:
    big = io.BytesIO()
    small = seal_resource([pattern(size)], NAME, big).to_bytes()
    begin = 12 + int.from_bytes(small[8:12], "big")
    described = json.loads(small[12:begin])
    key = TinkPeer(b64decode(described["key"]))
    assert key.unseal(small[begin:] + big.getvalue(), b"models/day/detector.onnx") == pattern(size)


@pytest.mark.parametrize("size", RESOURCE_SIZES)
def test_we_read_a_resource_that_was_made_with_tink(size: int) -> None:
    ciphertext = TinkPeer(KEY).seal(pattern(size), b"models/day/detector.onnx")
    head, rest = ciphertext[:65_536], ciphertext[65_536:]
    big = {"size": len(rest), "sha256": hashlib.sha256(rest).hexdigest()} if rest else None
    small = framed(b"AZSMALL1", {"key": b64encode(KEY).decode(), "size": size, "big": big}) + head
    reader = SmallPart.from_bytes(small).decrypt(NAME, io.BytesIO(rest) if rest else None)
    assert read_all(reader) == pattern(size)


def test_the_program_of_the_documentation_reads_our_archive(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", FORMATS_MD.read_text(), re.DOTALL)
    archive, fragment, tar = (tmp_path / name for name in ("images.enc", "key-fragment", "images.tar"))
    archive.write_bytes(
        b"".join(bytes(piece) for piece in seal_archive(manifest(2_000_000), [pattern(2_000_000)], FRAGMENT))
    )
    fragment.write_bytes(FRAGMENT)
    subprocess.run([sys.executable, "-c", program, archive, fragment, tar], check=True, timeout=60)
    assert tar.read_bytes() == pattern(2_000_000)
