"""Sources that lie: an error that says so, no archive, nothing beside it, and no plaintext on the disk."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from loader.packing import spooled
from loader.packing.choice import Chosen
from loader.packing.pack import Wishes, pack
from loader.packing.source_images import SourceImage
from loader.packing.sources import TarSource
from tests.packing.hand_sources import (
    INDEX_TYPE,
    Files,
    add,
    content_of,
    directory_of,
    docker_files,
    finish_layout,
    named,
    oci_files,
    put_blob,
    put_image,
    put_index,
    sha256,
    tar_of,
)
from tests.packing.packs import pack_path, refusal, unwatched
from tests.support.disk_search import contains
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer

MIB = 1 << 20
SECONDS = 20.0
MARKER = b"a secret of the makers, in plaintext "
SECOND = HandmadeLayer(random.Random(5).randbytes(1000), 30, "second")  # noqa: S311  every run needs the same bytes
IMAGE = HandmadeImage("lies/app:1", (HandmadeLayer(MARKER, 30_000), SECOND))
OTHER = HandmadeImage("lies/app:1", IMAGE.layers, {"User": "root"})
FIRST_TAR, SECOND_TAR = (f"{sha256(content_of(layer))}.tar" for layer in IMAGE.layers)
CONFIG = f"{sha256(IMAGE.config)}.json"
SECOND_BLOB = f"blobs/sha256/{sha256(content_of(SECOND))}"

Change = Callable[[Files], object]


def manifest_with(**fields: object) -> Change:
    def change(files: Files) -> None:
        (entry,) = json.loads(files["manifest.json"])
        files["manifest.json"] = json.dumps([entry | fields]).encode()

    return change


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


def odd_member(name: str, kind: bytes, target: str = "", files: Files | None = None) -> bytes:
    """Return the tar of `files`, by default those of `IMAGE`, with one more member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for file, content in (files or docker_files(IMAGE)).items():
            add(archive, file, content)
        add(archive, name, target or b"", kind)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "target", "told"),
    [
        ("manifest.json", tarfile.REGTYPE, "", "has 'manifest.json' twice"),
        ("./manifest.json", tarfile.REGTYPE, "", "has 'manifest.json' twice"),
        ("0.0/layer.tar", tarfile.REGTYPE, "", "twice"),
        ("manifest.json", tarfile.SYMTYPE, CONFIG, "has 'manifest.json' twice"),
        ("/etc/passwd", tarfile.REGTYPE, "", "unsafe name '/etc/passwd'"),
        ("a/../../b", tarfile.REGTYPE, "", "unsafe name"),
        ("a/..", tarfile.DIRTYPE, "", "unsafe name"),
        ("hard", tarfile.LNKTYPE, "../outside", "leads out of it"),
        ("soft", tarfile.SYMTYPE, "/outside", "leads out of it"),
        ("pipe", tarfile.FIFOTYPE, "", "neither a file, a directory nor a link"),
        ("disk", tarfile.BLKTYPE, "", "neither a file, a directory nor a link"),
        ("terminal", tarfile.CHRTYPE, "", "neither a file, a directory nor a link"),
    ],
)
def test_an_odd_member_is_refused(name: str, kind: bytes, target: str, told: str, tmp_path: Path, output: Path) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(odd_member(name, kind, target))
    said = refusal(origin, output)
    assert said.startswith("SOURCE_CORRUPT: ")
    assert told in said


def test_a_hard_link_within_the_tar_is_followed(tmp_path: Path, output: Path) -> None:
    files = docker_files(IMAGE)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            is_hard = name == "0.0/layer.tar"
            add(archive, name, FIRST_TAR if is_hard else content, tarfile.LNKTYPE if is_hard else tarfile.REGTYPE)
    (tmp_path / "source.tar").write_bytes(made.getvalue())
    assert pack_path(tmp_path / "source.tar", output).images == (IMAGE.image,)


@pytest.mark.parametrize("what", ["link", "parent", "fifo", "folder"])
def test_a_directory_is_never_left(what: str, tmp_path: Path, output: Path) -> None:
    files = docker_files(IMAGE)
    first = files.pop(FIRST_TAR)
    assert isinstance(first, bytes)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / FIRST_TAR).write_bytes(first)
    origin = directory_of(files, tmp_path / "source")
    place = origin / FIRST_TAR
    if what == "link":
        place.symlink_to(outside / FIRST_TAR)
    elif what == "parent":
        (origin / "0.0" / "layer.tar").unlink()
        (origin / "0.0").rmdir()
        (outside / "layer.tar").write_bytes(first)
        (origin / "0.0").symlink_to(outside)
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    assert refusal(origin, output).startswith("SOURCE_CORRUPT: ")


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
    "data", [gzip.compress(b"no tar" * 1000), b"\x28\xb5\x2f\xfd" + bytes(9), gzip.compress(b"x")[:-1]]
)
def test_a_source_that_cannot_be_decoded_is_told(data: bytes, tmp_path: Path, output: Path) -> None:
    (tmp_path / "source.tar.gz").write_bytes(data)
    assert refusal(tmp_path / "source.tar.gz", output).startswith("SOURCE_CORRUPT: The source ")


def test_many_names_are_counted_in_time(tmp_path: Path, output: Path) -> None:
    """Thousands of images with hundreds of thousands of names: more than an archive holds."""
    files = docker_files(IMAGE)
    (entry,) = json.loads(files["manifest.json"])
    entries = [entry | {"RepoTags": [f"a{number}:{tag}" for tag in range(40)]} for number in range(4096)]
    files["manifest.json"] = json.dumps(entries, separators=(",", ":")).encode()
    (tmp_path / "source.tar").write_bytes(tar_of(files))
    started = time.thread_time()
    assert "163840 images were named" in refusal(tmp_path / "source.tar", output)
    assert time.thread_time() - started < SECONDS


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
