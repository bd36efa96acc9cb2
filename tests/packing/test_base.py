"""Packing with a base: what the new release takes over, and what a base must be."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP, PLAIN, Blob
from loader.errors import ArchiveCorrupt, ArchiveIncomplete, KeyMismatch, LoaderError, SourceCorrupt
from loader.packing import spooled
from loader.packing.base import open_base
from loader.packing.pack import Wishes, pack
from loader.packing.sources import TarSource
from loader.packing.thin import thin
from tests.packing.hand_sources import Files, content_of, directory_of, docker_files, oci_files, sha256, source_of
from tests.packing.packs import contents, pack_path, unwatched
from tests.packing.shared_images import APP, DATABASE, HARD, MIB, SOFT
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer
from tests.support.small_disk import small_disk
from tests.support.thin_archives import index_of

TOP = HandmadeLayer(b"new " * 1000, 20, "top")
NEXT = HandmadeImage("pack/app:1.5", (SOFT, HARD, TOP))
MAKERS: list[Callable[..., Files]] = [docker_files, oci_files]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An archive whose layers are plain, as no packer with gzip would make them."""
    path = tmp_path / "base.enc"
    pack_path(source_of(docker_files(APP, DATABASE), tmp_path), path, codec=PLAIN)
    return path


def stored(path: Path, blob: Blob) -> bytes:
    """Return the sealed bytes of a blob of the archive at `path`."""
    begin = index_of(path).offsets[blob.digest]
    return path.read_bytes()[begin : begin + blob.stored_size]


def packed_source(files: Files, form: str, directory: Path) -> Path:
    return directory_of(files, directory / "directory") if form == "directory" else source_of(files, directory)


@pytest.mark.parametrize("form", ["tar", "directory"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_layers_of_the_base_keep_their_sealed_bytes(
    make: Callable[..., Files], compressed: bool, form: str, base: Path, tmp_path: Path, output: Path
) -> None:
    source = packed_source(make(NEXT, DATABASE, compressed=compressed), form, tmp_path)
    head, before = pack_path(source, output, version="1.5", base=base), index_of(base).head
    assert head.root_id == before.root_id
    for layer in (SOFT.described[0], HARD.described[0]):
        assert head.blob[layer] == before.blob[layer]
        assert stored(output, head.blob[layer]) == stored(base, before.blob[layer])
    assert head.blob[TOP.described[0]].codec == GZIP
    assert contents(output)[TOP.described[0]] == content_of(TOP)
    # The image that did not change is the same blob by blob.
    assert all(head.blob[digest] == before.blob[digest] for digest in DATABASE.image.blobs)
    thin(output, base, output.with_name("delta.enc"), unwatched)
    assert output.with_name("delta.enc").stat().st_size < 20_000


@pytest.mark.parametrize("make", MAKERS)
def test_layers_of_the_base_are_not_compressed(
    make: Callable[..., Files], base: Path, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(make(APP, DATABASE), tmp_path)

    def compressed(*_: object) -> None:
        raise AssertionError("a layer is compressed")

    for name in ("compress", "codec_of_sample"):
        monkeypatch.setattr(spooled, name, compressed)
    assert pack_path(source, output, base=base).blobs
    with pytest.raises(AssertionError, match="is compressed"):
        pack_path(source, output)


def test_a_layer_of_the_same_size_as_one_of_the_base_is_sealed(base: Path, tmp_path: Path, output: Path) -> None:
    other = HandmadeLayer(b"tfos " * 1000, 300, "soft")
    assert other.described[1] == SOFT.described[1]
    image = HandmadeImage("pack/app:1.5", (other, HARD))
    head = pack_path(source_of(docker_files(image), tmp_path), output, base=base)
    assert head.blob[other.described[0]].codec == GZIP
    assert head.images == (image.image,)


def test_packing_the_same_again_changes_no_blob(base: Path, tmp_path: Path, output: Path) -> None:
    head = pack_path(source_of(docker_files(APP, DATABASE), tmp_path), output, base=base)
    assert set(head.blobs) == set(index_of(base).head.blobs)


def test_an_image_of_which_nothing_is_in_the_base_is_packed(base: Path, tmp_path: Path, output: Path) -> None:
    image = HandmadeImage("pack/other:1", (TOP,))
    head = pack_path(source_of(docker_files(image), tmp_path), output, base=base)
    assert head.images == (image.image,)
    assert head.root_id == index_of(base).head.root_id


def test_a_layer_of_the_base_is_no_configuration(base: Path, tmp_path: Path, output: Path) -> None:
    files = docker_files(APP)
    layer = next(name for name in files if name.endswith(f"{SOFT.described[0].removeprefix('sha256:')}.tar"))
    files["manifest.json"] = json.dumps([{"Config": layer, "RepoTags": ["pack/app:1"], "Layers": []}]).encode()
    with pytest.raises(SourceCorrupt, match="is a layer and no description"):
        pack_path(source_of(files, tmp_path), output, base=base)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_a_source_that_lies_about_a_layer_of_the_base_is_refused(base: Path, tmp_path: Path, output: Path) -> None:
    """Its name is the digest of a layer of the base, its size too; only the content decides."""
    files = oci_files(APP)
    name = f"blobs/sha256/{SOFT.described[0].removeprefix('sha256:')}"
    files[name] = content_of(HandmadeLayer(b"tfos " * 1000, 300, "soft"))
    with pytest.raises(SourceCorrupt):
        pack_path(source_of(files, tmp_path), output, base=base)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def refused(kind: type[LoaderError], base: Path, source: Path, output: Path, fragment: bytes = FRAGMENT) -> None:
    with pytest.raises(kind), open_base(base, fragment) as opened:
        pack(TarSource(source, [], None), Wishes(), FRAGMENT, output, unwatched, opened)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_a_base_must_be_authentic_and_whole(base: Path, tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(APP), tmp_path)
    refused(KeyMismatch, base, source, output, b"x" * 32)
    thin(base, base, tmp_path / "thin.enc", unwatched)
    refused(ArchiveIncomplete, tmp_path / "thin.enc", source, output)
    changed = base.read_bytes().replace(b'"serial":', b'"serial":1', 1)
    (tmp_path / "changed.enc").write_bytes(changed)
    refused(ArchiveCorrupt, tmp_path / "changed.enc", source, output)


@pytest.mark.parametrize("place", [0, MIB, -1])
def test_a_damaged_layer_of_the_base_is_not_taken_over(place: int, base: Path, tmp_path: Path, output: Path) -> None:
    index = index_of(base)
    blob = index.head.blob[HARD.described[0]]
    flip_in_file(base, index.offsets[blob.digest] + place % blob.stored_size)
    refused(ArchiveCorrupt, base, source_of(docker_files(APP), tmp_path), output)


def test_a_base_that_shrinks_meanwhile_is_corrupt(base: Path, tmp_path: Path, output: Path) -> None:
    @contextmanager
    def shrinking(label: str, _total: int) -> Iterator[Callable[[int], None]]:
        if label == "sealing":
            os.truncate(base, MIB)
        yield lambda _: None

    source = TarSource(source_of(docker_files(APP), tmp_path), [], None)
    with pytest.raises(ArchiveCorrupt, match="cut short"), open_base(base, FRAGMENT) as opened:
        pack(source, Wishes(), FRAGMENT, output, shrinking, opened)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_layers_of_the_base_need_the_room_of_one_while_they_are_read(base: Path, tmp_path: Path, output: Path) -> None:
    """Each is spooled until its digest is known, and the next one takes its room."""
    layers = tuple(HandmadeLayer(bytes([number]) * 1000, 2000, "many") for number in range(8))
    image = HandmadeImage("pack/many:1", layers)
    source = source_of(docker_files(image), tmp_path)
    head = pack_path(source, output, base=base)
    assert sum(head.blob[layer.described[0]].stored_size for layer in layers) < MIB
    with small_disk(tmp_path / "disk", 3 * MIB) as disk:
        again = pack_path(source, disk / "images.enc", base=output)
    assert set(again.blobs) == set(head.blobs)


def test_zeros_behind_a_compressed_layer_of_the_base_change_nothing(base: Path, tmp_path: Path, output: Path) -> None:
    files = docker_files(APP)
    layer = f"{sha256(content_of(SOFT))}.tar"
    files[layer] = gzip.compress(content_of(SOFT)) + bytes(512)
    head = pack_path(source_of(files, tmp_path), output, base=base)
    assert head.blob[SOFT.described[0]] == index_of(base).head.blob[SOFT.described[0]]
