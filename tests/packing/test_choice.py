"""Which images of a source are packed, and under which names and platforms."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

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
    source_of,
)
from tests.packing.packs import pack_path, refusal
from tests.packing.shared_images import APP, ARM, DATABASE, HARD
from tests.support.handmade_image import HandmadeImage


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
