"""Sources that lie: an error that says so, no archive, nothing beside it, and no plaintext on the disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from loader.packing.choice import Chosen
from loader.packing.pack import Wishes, pack
from loader.packing.source_images import SourceImage
from loader.packing.sources import TarSource
from tests.packing.hand_sources import (
    INDEX_TYPE,
    Files,
    content_of,
    directory_of,
    docker_files,
    finish_layout,
    named,
    oci_files,
    put_blob,
    put_image,
    put_index,
    tar_of,
)
from tests.packing.lies import (
    CONFIG,
    FIRST_TAR,
    IMAGE,
    MARKER,
    OTHER,
    SECOND,
    SECOND_BLOB,
    SECOND_TAR,
    Change,
    manifest_with,
)
from tests.packing.packs import pack_path, refusal, unwatched
from tests.support.disk_search import contains
from tests.support.handmade_image import FRAGMENT, HandmadeImage


def index_with(**fields: object) -> Change:
    def change(files: Files) -> None:
        document = json.loads(files["index.json"])
        document["manifests"][0] |= fields
        files["index.json"] = json.dumps(document).encode()

    return change


def without(name: str) -> Change:
    return lambda files: files.pop(name)


def with_file(name: str, content: bytes | str) -> Change:
    return lambda files: files.update({name: content})


def also_index_of(image: HandmadeImage) -> Change:
    return lambda files: files.update(oci_files(image))


def nest_indexes(files: Files) -> None:
    descriptor = put_image(files, IMAGE)
    for _ in range(6):
        descriptor = put_index(files, [descriptor])
    finish_layout(files, descriptor | named(IMAGE.reference))


def multiply_indexes(files: Files) -> None:
    descriptor = put_image(files, IMAGE)
    for _ in range(4):
        descriptor = put_index(files, [descriptor] * 100)
    finish_layout(files, descriptor)


ARCHIVE_LIES: dict[str, tuple[Change, str]] = {
    "no manifest": (without("manifest.json"), "neither manifest.json nor index.json"),
    "a missing layer": (without(SECOND_TAR), "which one of its images needs"),
    "a missing configuration": (without(CONFIG), f"has no '{CONFIG}'"),
    "another layer": (with_file(SECOND_TAR, content_of(IMAGE.layers[0])), "is not the layer"),
    "a layer cut short": (with_file(SECOND_TAR, content_of(SECOND)[:-512]), "is not the layer"),
    "another configuration": (with_file(CONFIG, OTHER.config), "is not what its name"),
    "a layer less": (manifest_with(Layers=["0.0/layer.tar"]), "has 1 layers, but its configuration names 2"),
    "layers in another order": (manifest_with(Layers=["0.1/layer.tar", "0.0/layer.tar"]), "is not the layer"),
    "a damaged gzip": (with_file(SECOND_TAR, gzip.compress(content_of(SECOND))[:-9]), "gzip is cut short"),
    "a gzip with another checksum": (
        with_file(SECOND_TAR, gzip.compress(content_of(SECOND))[:-8] + bytes(8)),
        "gzip is damaged",
    ),
    "zstd": (with_file(SECOND_TAR, b"\x28\xb5\x2f\xfd" + bytes(100)), "uncompressed or with gzip"),
    "a compressed configuration": (with_file(CONFIG, gzip.compress(IMAGE.config)), CONFIG),
    "a link out": (with_file("0.0/layer.tar", "../../etc/passwd"), "leads out of it"),
    "an absolute link": (with_file("0.0/layer.tar", "/etc/passwd"), "leads out of it"),
    "a link to itself": (with_file("0.0/layer.tar", "layer.tar"), "leads over more than"),
    "a loop of links": (lambda files: files.update({"0.0/layer.tar": "../a", "a": "b", "b": "a"}), "leads over more"),
    "a chain of links": (
        lambda files: files.update({"0.0/layer.tar": "../0", **{f"{n}": f"{n + 1}" for n in range(5)}, "5": FIRST_TAR}),
        "leads over more",
    ),
    "no JSON": (with_file("manifest.json", b"[{"), "is not JSON"),
    "deep JSON": (with_file("manifest.json", b"[" * 500_000), "is not JSON"),
    "large JSON": (with_file("manifest.json", b"[" + b" " * (4 << 20) + b"]"), "a description has at most"),
    "a large configuration": (with_file(CONFIG, b"{" + b" " * (4 << 20)), "a description has at most"),
    "JSON of another kind": (with_file("manifest.json", b"{}"), "does not describe images"),
    "an entry that is a number": (with_file("manifest.json", b"[1]"), "does not describe images"),
    "layers that are a number": (manifest_with(Layers=7), "does not describe images"),
    "a layer that is a number": (manifest_with(Layers=[7]), "does not describe images"),
    "thousands of images": (
        lambda files: files.update({"manifest.json": json.dumps(json.loads(files["manifest.json"]) * 4097).encode()}),
        "more than 4096 images",
    ),
    "a malformed name": (manifest_with(RepoTags=["lies/app:"]), "malformed name"),
    "an unsafe path": (manifest_with(Layers=["../../x", "0.1/layer.tar"]), "unsafe name"),
    "another configuration in the index": (also_index_of(OTHER), "disagree about docker.io/lies/app:1"),
    "another name in the index": (
        lambda files: files.update(oci_files(HandmadeImage("other:2", IMAGE.layers))),
        "disagree about",
    ),
}

LAYOUT_LIES: dict[str, tuple[Change, str]] = {
    "a missing blob": (without(SECOND_BLOB), f"has no '{SECOND_BLOB}'"),
    "another blob": (
        with_file(SECOND_BLOB, content_of(IMAGE.layers[0])),
        "is not what its name or its descriptor says",
    ),
    "a missing manifest": (index_with(digest=f"sha256:{'0' * 64}"), "which one of its images needs"),
    "another size": (index_with(size=7), "is not what its descriptor says"),
    "a negative size": (index_with(size=-7), "is not what its descriptor says"),
    "a size that is a text": (index_with(size="7"), "does not describe images"),
    "a digest of another kind": (index_with(digest="sha512:00"), "does not describe images"),
    "a digest that leads out": (index_with(digest="sha256:../../../etc"), "does not describe images"),
    "another platform": (index_with(platform={"os": "linux", "architecture": "arm64"}), "but it is for 'linux/amd64'"),
    "something else than an image": (index_with(mediaType="application/vnd.cncf.helm"), "is not an image"),
    "an index that is none": (index_with(mediaType=INDEX_TYPE), "does not describe images"),
    "deep indexes": (nest_indexes, "indexes within more than"),
    "many indexes": (multiply_indexes, "names more than"),
    "no manifests": (with_file("index.json", b"{}"), "does not describe images"),
}


@pytest.mark.parametrize("form", ["tar", "directory"])
@pytest.mark.parametrize("lie", [*ARCHIVE_LIES, *LAYOUT_LIES])
def test_a_lie_is_noticed(lie: str, form: str, tmp_path: Path, output: Path) -> None:
    change, told = (ARCHIVE_LIES | LAYOUT_LIES)[lie]
    files = docker_files(IMAGE) if lie in ARCHIVE_LIES else oci_files(IMAGE)
    change(files)
    origin = directory_of(files, tmp_path / "source") if form == "directory" else tmp_path / "source.tar"
    if form == "tar":
        origin.write_bytes(tar_of(files))
    said = refusal(origin, output)
    assert said.startswith("SOURCE_CORRUPT: ")
    assert told in said


@pytest.mark.parametrize("form", ["tar", "directory"])
@pytest.mark.parametrize("files", [docker_files(IMAGE), oci_files(IMAGE), docker_files(IMAGE) | oci_files(IMAGE)])
def test_without_a_lie_it_is_packed(files: Files, form: str, tmp_path: Path, output: Path) -> None:
    origin = directory_of(files, tmp_path / "source") if form == "directory" else tmp_path / "source.tar"
    if form == "tar":
        origin.write_bytes(tar_of(files))
    (image,) = pack_path(origin, output).images
    assert image == IMAGE.image


class WatchedTar(TarSource):
    """A tar that looks at the disk when everything was read and nothing was sealed yet."""

    def __init__(self, path: Path, watched: Path) -> None:
        super().__init__(path, [], None)
        self._watched = watched

    def choose(self, images: Sequence[SourceImage]) -> Chosen:
        (spool,) = self._watched.iterdir()
        assert spool.stat().st_size > len(content_of(IMAGE.layers[0]))
        assert not contains(spool, MARKER)
        return super().choose(images)


def test_what_waits_to_be_checked_is_no_plaintext(tmp_path: Path, output: Path) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(docker_files(IMAGE)))
    assert contains(origin, MARKER)
    pack(WatchedTar(origin, output.parent), Wishes(codec="none"), FRAGMENT, output, unwatched)
    assert not contains(output, MARKER)


def test_a_failure_keeps_the_previous_archive(tmp_path: Path, output: Path) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(docker_files(IMAGE)))
    pack_path(origin, output)
    before = output.read_bytes()
    origin.write_bytes(tar_of(docker_files(IMAGE))[:-20_000])
    assert "cut short" in refusal(origin, output)
    assert output.read_bytes() == before


def test_an_attestation_is_no_lie(tmp_path: Path, output: Path) -> None:
    files: Files = {}
    image = put_image(files, IMAGE)
    proof = put_blob(files, b"{}", "application/vnd.oci.image.manifest.v1+json")
    by_platform = proof | {"platform": {"os": "unknown", "architecture": "unknown"}}
    by_annotation = proof | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    finish_layout(files, put_index(files, [image, by_platform, by_annotation], **named(IMAGE.reference)))
    assert pack_path(directory_of(files, tmp_path / "source"), output).images == (IMAGE.image,)


@pytest.mark.parametrize(("name", "text"), [("manifest.json", b"[]"), ("index.json", b'{"manifests": []}')])
def test_a_source_without_images_says_so(name: str, text: bytes, tmp_path: Path, output: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(tar_of({name: text}))
    assert refusal(tmp_path / "empty.tar", output) == "SOURCE_CORRUPT: The source holds no image."
