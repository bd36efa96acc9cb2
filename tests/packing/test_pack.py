"""Packing of handmade sources: what goes into the archive, and in which form."""

from __future__ import annotations

import gzip
import json
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP, MAX_REFERENCES, PLAIN
from loader.errors import DiskSpace, ImageNotFound, StorageError
from loader.packing.pack import Wishes, pack
from loader.packing.rewrap import rewrap
from loader.packing.sources import TarSource
from loader.packing.verify import verify
from tests.packing.hand_sources import (
    TAG,
    Files,
    content_of,
    directory_of,
    docker_files,
    finish_layout,
    named,
    oci_files,
    put_image,
    put_index,
    sha256,
    tar_of,
)
from tests.packing.packs import contents, pack_path, refusal, unwatched
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.small_disk import small_disk

MIB = 1 << 20
NOISE = random.Random(1).randbytes(MIB)  # noqa: S311  every run needs the same bytes
SOFT = HandmadeLayer(b"soft " * 1000, 300, "soft")
HARD = HandmadeLayer(NOISE, 2, "hard")
APP = HandmadeImage("pack/app:1.4", (SOFT, HARD))
DATABASE = HandmadeImage("registry:5000/database:1.4", (SOFT,))
ARM = HandmadeImage("pack/app:1.4", (HARD,), architecture="arm64")


def source_of(files: Files, tmp_path: Path) -> Path:
    path = tmp_path / f"{sha256(tar_of(files))}.tar"
    path.write_bytes(tar_of(files))
    return path


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


@pytest.mark.parametrize("form", ["tar", "directory"])
def test_images_are_chosen_by_name(form: str, tmp_path: Path, output: Path) -> None:
    files = docker_files(APP, DATABASE)
    origin = directory_of(files, tmp_path / "source") if form == "directory" else source_of(files, tmp_path)
    head = pack_path(origin, output, ["registry:5000/database:1.4", "registry:5000/database:1.4"])
    assert head.images == (DATABASE.image,)
    assert len(head.blobs) == 3
    said = refusal(origin, output, ["absent:1"])
    assert said == (
        "IMAGE_NOT_FOUND: The source has no image docker.io/library/absent:1; "
        "it has docker.io/pack/app:1.4, registry:5000/database:1.4."
    )


def test_a_directory_may_lack_what_nobody_wants(tmp_path: Path, output: Path) -> None:
    files = docker_files(APP, DATABASE)
    del files[f"{sha256(content_of(HARD))}.tar"]
    origin = directory_of(files, tmp_path / "source")
    assert pack_path(origin, output, ["registry:5000/database:1.4"]).images == (DATABASE.image,)
    assert "which one of its images needs" in refusal(origin, output)


def unnamed(files: Files) -> Files:
    (entry,) = json.loads(str(files["manifest.json"], "utf-8"))  # type: ignore[arg-type]  # it is no link
    return files | {"manifest.json": json.dumps([entry | {"RepoTags": None}]).encode()}


def tagged_only(image: HandmadeImage) -> Files:
    files: Files = {}
    return finish_layout(files, put_image(files, image, annotations={TAG: "latest"}))


@pytest.mark.parametrize("files", [unnamed(docker_files(APP)), tagged_only(APP)])
def test_the_only_image_without_a_name_gets_the_one_that_is_given(files: Files, tmp_path: Path, output: Path) -> None:
    source = source_of(files, tmp_path)
    (image,) = pack_path(source, output, ["given:9"]).images
    assert image.reference == "docker.io/library/given:9"
    assert image.config == APP.image.config
    assert refusal(source, output).startswith("VALIDATION_FAILED: The source holds an image without a full name")
    assert refusal(source, output, ["given:9", "other:9"]).startswith("IMAGE_NOT_FOUND: ")


def test_a_full_name_in_the_annotation_of_oci_is_a_name(tmp_path: Path, output: Path) -> None:
    files: Files = {}
    finish_layout(files, put_image(files, APP, annotations={TAG: "registry:5000/app:7"}))
    (image,) = pack_path(source_of(files, tmp_path), output).images
    assert image.reference == "registry:5000/app:7"


def test_the_form_of_kaniko_is_packed(tmp_path: Path, output: Path) -> None:
    """It names the configuration `sha256:...` and has layers with gzip, `<digest of the gzip>.tar.gz`."""
    layers = [gzip.compress(content_of(layer), 6, mtime=0) for layer in APP.layers]
    names = [f"{sha256(layer)}.tar.gz" for layer in layers]
    config = f"sha256:{sha256(APP.config)}"
    entry = {"Config": config, "RepoTags": [APP.reference], "Layers": names}
    files: Files = {config: APP.config, **dict(zip(names, layers, strict=True))}
    files["manifest.json"] = json.dumps([entry]).encode()
    source = source_of(files, tmp_path)
    assert pack_path(source, output).images == (APP.image,)
    output.unlink()
    files[config] = ARM.config
    assert "is not what its name or its descriptor says" in refusal(source_of(files, tmp_path), output)


def test_a_name_by_digest_is_no_name(tmp_path: Path, output: Path) -> None:
    files: Files = {}
    by_digest = f"docker.io/pack/app@sha256:{'0' * 64}"
    finish_layout(files, put_image(files, APP, **named(by_digest)), put_image(files, APP, **named(APP.reference)))
    source = source_of(files, tmp_path)
    assert pack_path(source, output, [APP.reference]).images == (APP.image,)


def several_platforms(*, nested: bool) -> Files:
    files: Files = {}
    name = named(APP.reference)
    made = [
        put_image(files, APP, platform={"os": "linux", "architecture": "amd64"}, **({} if nested else name)),
        put_image(
            files, ARM, platform={"os": "linux", "architecture": "arm64", "variant": "v8"}, **({} if nested else name)
        ),
    ]
    return finish_layout(files, put_index(files, made, **name)) if nested else finish_layout(files, *made)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", ["tar", "directory"])
def test_one_of_several_platforms_is_chosen(nested: bool, form: str, tmp_path: Path, output: Path) -> None:
    files = several_platforms(nested=nested)
    origin = directory_of(files, tmp_path / "source") if form == "directory" else source_of(files, tmp_path)
    assert pack_path(origin, output, platform="linux/amd64").images == (APP.image,)
    assert pack_path(origin, output, platform="linux/arm64").images == (ARM.image,)
    assert pack_path(origin, output, platform="linux/arm64/v8").images == (ARM.image,)
    output.unlink()
    told = "linux/amd64, linux/arm64/v8"
    assert refusal(origin, output) == (
        f"VALIDATION_FAILED: The source has docker.io/pack/app:1.4 for several platforms, {told}: "
        "choose with --platform."
    )
    assert refusal(origin, output, platform="linux/arm64/v7") == (
        f"IMAGE_NOT_FOUND: The source has no image docker.io/pack/app:1.4 for linux/arm64/v7; it has {told}."
    )


def test_an_index_may_name_platforms_that_are_not_there(tmp_path: Path, output: Path) -> None:
    files = several_platforms(nested=True)
    alone: Files = {}
    put_image(alone, ARM)
    for name in alone.keys() - oci_files(APP).keys():
        del files[name]
    assert pack_path(source_of(files, tmp_path), output).images == (APP.image,)


def test_an_archive_of_docker_is_compared_with_the_platform(tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(ARM), tmp_path)
    assert pack_path(source, output, platform="linux/arm64").images == (ARM.image,)
    output.unlink()
    assert refusal(source, output, platform="linux/amd64").startswith("IMAGE_NOT_FOUND: ")


def test_many_names_of_one_image_cost_a_line_each(tmp_path: Path, output: Path) -> None:
    layers = tuple(HandmadeLayer(bytes([number]), 1) for number in range(100))
    files = docker_files(HandmadeImage("pack/many:0", layers))
    (entry,) = json.loads(str(files["manifest.json"], "utf-8"))  # type: ignore[arg-type]  # it is no link
    names = [f"registry:5000/pack/many:{number}" for number in range(MAX_REFERENCES + 1)]
    files["manifest.json"] = json.dumps([entry | {"RepoTags": names[:-1]}]).encode()
    head = pack_path(source_of(files, tmp_path), output, version="7")
    assert len(head.images) == MAX_REFERENCES
    assert len(head.blobs) == 102
    assert len(head.to_bytes()) < 80_000 + MAX_REFERENCES * 200
    output.unlink()
    files["manifest.json"] = json.dumps([entry | {"RepoTags": names}]).encode()
    assert refusal(source_of(files, tmp_path), output).startswith("VALIDATION_FAILED: 257 images were named")


def test_too_many_layers_are_refused(tmp_path: Path, output: Path) -> None:
    image = HandmadeImage("pack/high:1", (SOFT,) * 129)
    assert refusal(source_of(docker_files(image), tmp_path), output).startswith("VALIDATION_FAILED: ")
    pack_path(source_of(docker_files(HandmadeImage("pack/high:1", (SOFT,) * 128)), tmp_path), output)


def test_version_and_serial_have_defaults(tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(APP, DATABASE), tmp_path)
    before = int(time.time())
    release = pack_path(source, output).release
    assert release.version == "1.4"
    assert before <= release.serial <= time.time()
    assert before - 2 <= time.mktime(time.strptime(release.created, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    release = pack_path(source, output, version="2.0", serial=7).release
    assert (release.version, release.serial) == ("2.0", 7)


def test_different_tags_need_a_version(tmp_path: Path, output: Path) -> None:
    source = source_of(docker_files(APP, HandmadeImage("pack/other:2", (SOFT,))), tmp_path)
    said = refusal(source, output)
    assert said == "VALIDATION_FAILED: The images have several tags (1.4, 2): say the version with --version."
    assert pack_path(source, output, version="3").release.version == "3"


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
