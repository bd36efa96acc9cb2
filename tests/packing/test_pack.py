"""Packing of handmade sources: what goes into the archive, and in which form."""

from __future__ import annotations

import gzip
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP, PLAIN
from loader.errors import DiskSpace, ImageNotFound, StorageError
from loader.packing.pack import Wishes, pack
from loader.packing.rewrap import rewrap
from loader.packing.sources import TarSource
from loader.packing.verify import verify
from tests.packing.hand_sources import (
    Files,
    content_of,
    directory_of,
    docker_files,
    oci_files,
    sha256,
    source_of,
    tar_of,
)
from tests.packing.packs import contents, pack_path, unwatched
from tests.packing.shared_images import APP, DATABASE, HARD, MIB, NOISE, SOFT
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.small_disk import small_disk


def test_the_archive_holds_exactly_the_images(tmp_path: Path, output: Path) -> None:
    head = pack_path(source_of(docker_files(APP, DATABASE), tmp_path), output)
    assert head.images == (APP.image, DATABASE.image)
    held = contents(output)
    expected = {digest: b"".join(content) for image in (APP, DATABASE) for digest, content in image.contents().items()}
    assert held == expected
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert os.listdir(output.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("make", [docker_files, oci_files])
def test_every_form_of_a_source_makes_the_same_blobs(
    make: object, compressed: bool, tmp_path: Path, output: Path
) -> None:
    assert callable(make)
    files = make(APP, DATABASE, compressed=compressed)
    heads = [
        pack_path(directory_of(files, tmp_path / "directory"), output),
        pack_path(source_of(files, tmp_path), output),
        pack_path(source_of(docker_files(APP, DATABASE), tmp_path), output),
    ]
    zipped = tmp_path / "zipped.tgz"
    zipped.write_bytes(gzip.compress(tar_of(files), 1))
    heads.append(pack_path(zipped, output))
    described = {frozenset((blob.digest, blob.codec, blob.packed) for blob in head.blobs) for head in heads}
    assert len(described) == 1
    assert {head.images for head in heads} == {(APP.image, DATABASE.image)}


def test_gzip_is_chosen_where_it_saves_enough(tmp_path: Path, output: Path) -> None:
    head = pack_path(source_of(docker_files(APP), tmp_path), output)
    codecs = {digest: head.blob[digest].codec for digest in APP.image.blobs}
    assert [codecs[digest] for digest in APP.image.layers] == [GZIP, PLAIN]
    assert codecs[APP.image.manifest] == codecs[APP.image.config] == PLAIN
    head = pack_path(source_of(docker_files(APP, compressed=True), tmp_path), output, codec=PLAIN)
    assert {blob.codec for blob in head.blobs} == {PLAIN}


@pytest.mark.parametrize(
    ("blocks", "codec"),
    [
        # The first 4 MiB are compressed well, the whole is not.
        ([bytes(MIB)] * 4 + [NOISE] * 60, PLAIN),
        ([bytes(MIB)] * 4 + [NOISE] * 10, GZIP),
        # The first 4 MiB are not compressed well, a piece of the rest is.
        ([NOISE] * 5 + [bytes(MIB)] * 16, GZIP),
        # The samples are compressed well, the whole is not: the layer stays as it was.
        ([NOISE] * 15 + [bytes(MIB)] * 1 + [NOISE] * 10, PLAIN),
    ],
)
def test_the_whole_layer_decides_in_the_end(blocks: list[bytes], codec: str, tmp_path: Path, output: Path) -> None:
    content = b"".join(blocks)
    layer = HandmadeLayer(content, 1)
    image = HandmadeImage("pack/large:1", (layer, SOFT))
    head = pack_path(source_of(docker_files(image), tmp_path), output)
    assert head.blob[layer.described[0]].codec == codec
    assert head.blob[SOFT.described[0]].codec == GZIP
    assert contents(output)[layer.described[0]] == content_of(layer)
    # Nothing of the form that was dropped is left.
    assert output.stat().st_size < sum(blob.stored_size for blob in head.blobs) + 10_000


@pytest.mark.parametrize("codec", [PLAIN, GZIP])
@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, MIB + 1, 4 * MIB, 4 * MIB + 1])
def test_layers_of_any_size_are_packed(size: int, codec: str, tmp_path: Path, output: Path) -> None:
    """The packer does not look into layers, so these need not be tars."""
    layer = (NOISE * 5)[:size]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
    }
    entry = {"Config": "config.json", "RepoTags": ["pack/any:1"], "Layers": ["layer"]}
    files: Files = {
        "layer": layer,
        "manifest.json": json.dumps([entry]).encode(),
        "config.json": json.dumps(config).encode(),
    }
    pack_path(source_of(files, tmp_path), output, codec=codec)
    assert contents(output)[f"sha256:{sha256(layer)}"] == layer


@pytest.mark.parametrize("make", [docker_files, oci_files])
@pytest.mark.parametrize("layers", [(), (SOFT, SOFT), (SOFT, HARD, SOFT)])
def test_an_image_may_have_no_layer_or_one_twice(
    make: object, layers: tuple[HandmadeLayer, ...], tmp_path: Path, output: Path
) -> None:
    assert callable(make)
    image = HandmadeImage("pack/chain:1", layers)
    head = pack_path(source_of(make(image), tmp_path), output)
    assert head.images == (image.image,)
    assert len(head.blobs) == 2 + len(set(layers))


def test_two_archives_differ_in_all_their_bytes_but_hold_the_same(tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(APP), tmp_path)
    heads = [pack_path(source, output, serial=number) for number in (1, 2)]
    assert heads[0].root_id != heads[1].root_id
    assert {blob.stored for blob in heads[0].blobs}.isdisjoint({blob.stored for blob in heads[1].blobs})
    assert [blob.packed for blob in heads[0].blobs] == [blob.packed for blob in heads[1].blobs]


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    source = source_of(docker_files(APP), tmp_path)
    with small_disk(tmp_path / "disk", MIB) as disk:
        with pytest.raises(DiskSpace, match=str(disk)):
            pack_path(source, disk / "images.enc")
        assert os.listdir(disk) == []  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("codec", [PLAIN, GZIP])
def test_the_archive_needs_its_room_only_once(codec: str, tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(APP, DATABASE), tmp_path)
    pack_path(source, output, codec=codec)
    size = output.stat().st_size
    with small_disk(tmp_path / "disk", size + MIB // 2) as disk:
        pack_path(source, disk / "images.enc", codec=codec)
        assert (disk / "images.enc").stat().st_size == size > MIB


@pytest.mark.parametrize("place", ["absent/images.enc", "folder"])
def test_a_place_that_cannot_be_written_is_told(place: str, tmp_path: Path, output: Path) -> None:
    (output.parent / "folder").mkdir()
    with pytest.raises(StorageError):
        pack_path(source_of(docker_files(APP), tmp_path), output.parent / place)
    assert os.listdir(output.parent) == ["folder"]  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("during", ["reading", "sealing"])
@pytest.mark.parametrize("other", ["pack", "failed pack", "rewrap", "rewrap in place"])
def test_writers_of_one_archive_do_not_disturb_each_other(
    during: str, other: str, tmp_path: Path, output: Path
) -> None:
    source = source_of(docker_files(APP), tmp_path)
    archive = seal(output if other == "rewrap in place" else tmp_path / "sealed.enc", [DATABASE])

    @contextmanager
    def disturbed(label: str, _total: int) -> Iterator[Callable[[int], None]]:
        if label == during and other == "pack":
            pack_path(source, output)
        elif label == during and other == "failed pack":
            with pytest.raises(ImageNotFound):
                pack_path(source, output, ["absent:1"])
        elif label == during:
            rewrap(archive, FRAGMENT, FRAGMENT, output, unwatched)
        yield lambda _: None

    head = pack(TarSource(source, [], None), Wishes(), FRAGMENT, output, disturbed)
    assert verify(output, FRAGMENT, unwatched).head == head
    assert os.listdir(output.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count
