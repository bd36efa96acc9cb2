"""docs/formats.md: its program reads our archives, and its numbers are those of the vectors."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crypto.archive_vectors import APP, archive_vectors
from tests.crypto.make_vectors import resource_vectors
from tests.crypto.reference import pattern
from tests.crypto.reference_archive import FRAGMENT as REFERENCE_FRAGMENT
from tests.crypto.reference_archive import blobs_of, framed_json, head_of, seals_of
from tests.crypto.vectors_format import DIRECTORY
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal

TEXT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
FULL = archive_vectors()[0].archive


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "key-fragment").write_bytes(FRAGMENT)
    return tmp_path


def read(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the program of the document."""
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    arguments = [directory / name for name in ("images.enc", "key-fragment", "layout")]
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_the_program_writes_the_layout_of_our_archive(directory: Path, codec: str) -> None:
    layers = (HandmadeLayer(pattern(1 << 20), 3), HandmadeLayer(b"a", 99))
    images = [HandmadeImage("azaion/app:1.4", layers), HandmadeImage("database:9", layers[:1])]
    seal(directory / "images.enc", images, codec=codec)
    done = read(directory)
    assert done.returncode == 0, done.stderr
    layout = directory / "layout"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    assert [(entry["digest"], entry["annotations"]["org.opencontainers.image.ref.name"]) for entry in manifests] == [
        (image.image.manifest, image.image.reference) for image in images
    ]
    blobs = {f"sha256:{file.name}": file.read_bytes() for file in (layout / "blobs" / "sha256").iterdir()}
    assert blobs.keys() == {digest for image in images for digest in image.image.blobs}
    assert all(digest == f"sha256:{hashlib.sha256(data).hexdigest()}" for digest, data in blobs.items())
    assert [len(blobs[entry["digest"]]) for entry in manifests] == [entry["size"] for entry in manifests]


REFUSED = {
    "another fragment": (FULL, bytes(32), "key fragment"),
    "another head": (FULL.replace(b"2026-03-01T", b"2026-03-02T"), REFERENCE_FRAGMENT, "mac"),
    "a changed blob": (FULL[:-1] + b"\0", REFERENCE_FRAGMENT, "stored"),
    "a thin archive": (archive_vectors()[2].archive, REFERENCE_FRAGMENT, "a blob is absent"),
    "bytes behind": (FULL + b"\0", REFERENCE_FRAGMENT, "bytes behind the last blob"),
    "format 1": (b"AZIMAGE1" + FULL[8:], REFERENCE_FRAGMENT, "magic"),
}


@pytest.mark.parametrize(("data", "fragment", "reason"), REFUSED.values(), ids=REFUSED)
def test_the_program_refuses_what_must_be_refused(directory: Path, data: bytes, fragment: bytes, reason: str) -> None:
    (directory / "images.enc").write_bytes(data)
    (directory / "key-fragment").write_bytes(fragment)
    done = read(directory)
    assert (done.returncode, done.stderr) == (1, f"refused: {reason}\n")


def test_every_key_and_digest_of_the_document_is_in_the_vectors() -> None:
    vectors = "".join(path.read_text() for path in DIRECTORY.iterdir())
    found = re.findall(r"`(?:sha256:)?([0-9a-f]{16,})`", TEXT)
    assert len(found) >= 15
    assert [value for value in found if value not in vectors] == []


def test_the_offsets_of_the_worked_example() -> None:
    head = framed_json(head_of([APP]))
    sizes = [8, len(head), len(framed_json(seals_of(head))), 4 + 96, *(len(blob.stored()) for blob in blobs_of([APP]))]
    assert offsets_told("### Worked example") == [
        (sum(sizes[:number]), size) for number, size in enumerate([*sizes, 0])
    ]
    assert sum(sizes) == len(FULL)


def test_the_offsets_of_the_example_of_a_model() -> None:
    (vector,) = (vector for vector in resource_vectors() if vector.name == "one signature")
    header = 4 + int.from_bytes(vector.small[8:12], "big")
    seals = 4 + int.from_bytes(vector.small[8 + header : 12 + header], "big")
    sizes = [8, header, seals, len(vector.small) - 8 - header - seals]
    assert offsets_told("The vector `one signature`") == [
        (sum(sizes[:number]), size) for number, size in enumerate([*sizes, 0])
    ]
    assert f"Signed are {len(vector.signed)} bytes" in TEXT
    assert len(vector.signed) == 22 + 2 + len("models/day/a.onnx") + header + sizes[-1]


def offsets_told(start: str) -> list[tuple[int, int]]:
    """Return the offsets and sizes in the first table of offsets after `start`."""
    (table,) = re.findall(r"^\| offset \| bytes \|.*\n((?:\|.*\n)*)", TEXT.partition(start)[2], re.MULTILINE)[:1]
    rows = re.findall(r"^\| (\d+) \| (?:(\d+) \+ )?(\d*) ?\| ", table, re.MULTILINE)
    return [(int(offset), int(length or 0) + int(size or 0)) for offset, length, size in rows]
