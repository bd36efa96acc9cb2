"""Files of a source that are compressed or damaged, large, or needed by no image."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from loader.packing import spooled
from tests.packing.hand_sources import (
    Files,
    content_of,
    directory_of,
    docker_files,
    tar_of,
)
from tests.packing.lies import (
    IMAGE,
    MARKER,
    SECOND,
    SECOND_TAR,
    manifest_with,
    odd_member,
)
from tests.packing.packs import pack_path, refusal

MIB = 1 << 20


def test_a_bomb_ends_at_the_limit(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "MAX_LAYER_SIZE", len(content_of(IMAGE.layers[0])) - 1)
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(docker_files(IMAGE, compressed=True)))
    assert "its gzip holds more than" in refusal(origin, output)
    origin.write_bytes(tar_of(docker_files(IMAGE)))
    assert "bytes, more than" in refusal(origin, output)
    monkeypatch.setattr(spooled, "MAX_LAYER_SIZE", len(content_of(IMAGE.layers[0])))
    pack_path(origin, output)


UNNEEDED = {
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(2000),
    "only the magic of gzip": b"\x1f\x8b",
    "something that starts like gzip": b"\x1f\x8b\x08 is no gzip " * 100_000,
    "gzip that is cut": gzip.compress(bytes(MIB) + MARKER * 10)[:-9],
    "gzip of two members, one of them damaged": gzip.compress(bytes(2 * MIB)) + b"\x1f\x8b\x08\x00damage",
    "a bomb": gzip.compress(bytes(3 * MIB)),
    "a large file": bytes(3 * MIB),
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("content", UNNEEDED.values(), ids=UNNEEDED)
def test_a_file_that_no_image_needs_is_not_judged(
    content: bytes, place: str, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "MAX_LAYER_SIZE", 2 * MIB)
    extra: Files = {"other/file": content, "other/link": "file"}
    files = extra | docker_files(IMAGE) if place == "first" else docker_files(IMAGE) | extra
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(files))
    (image,) = pack_path(origin, output).images
    assert image == IMAGE.image
    output.unlink()
    # The same file is judged once it is a layer, also by the name of a link.
    for name in ("other/file", "other/link"):
        manifest_with(Layers=["0.0/layer.tar", name])(files)
        origin.write_bytes(tar_of(files))
        assert "'other/file' of the source cannot be read: it" in refusal(origin, output)
    # A name that stands twice is refused, whatever it names.
    origin.write_bytes(odd_member("other/file", tarfile.REGTYPE, "", files))
    assert "has 'other/file' twice" in refusal(origin, output)


@pytest.mark.parametrize("zeros", [1, 512, 10_240, 3 * MIB])
@pytest.mark.parametrize("members", [1, 3])
def test_zeros_behind_a_compressed_tar_are_left_out(zeros: int, members: int, tmp_path: Path, output: Path) -> None:
    """As a disk or a tape has them, to which the file was copied."""
    data, origin = tar_of(docker_files(IMAGE)), tmp_path / "source.tar.gz"
    step = len(data) // members + 1
    zipped = b"".join(gzip.compress(data[begin : begin + step]) for begin in range(0, len(data), step)) + bytes(zeros)
    origin.write_bytes(zipped)
    assert pack_path(origin, output).images == (IMAGE.image,)
    output.unlink()
    for behind in (b"x", gzip.compress(b"")):
        origin.write_bytes(zipped + behind)
        assert "bytes follow the zeros behind its gzip" in refusal(origin, output)


def test_a_compressed_layer_may_have_zeros_behind_it(tmp_path: Path, output: Path) -> None:
    files = docker_files(IMAGE)
    files[SECOND_TAR] = gzip.compress(content_of(SECOND)) + bytes(512)
    assert pack_path(directory_of(files, tmp_path / "source"), output).images == (IMAGE.image,)


@pytest.mark.parametrize(
    "data",
    [gzip.compress(b"no tar" * 1000), b"\x28\xb5\x2f\xfd" + bytes(9), gzip.compress(b"x")[:-1]],
    ids=["no tar", "zstd", "a cut gzip"],
)
def test_a_source_that_cannot_be_decoded_is_told(data: bytes, tmp_path: Path, output: Path) -> None:
    (tmp_path / "source.tar.gz").write_bytes(data)
    assert refusal(tmp_path / "source.tar.gz", output).startswith("SOURCE_CORRUPT: The source ")
