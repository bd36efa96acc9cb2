"""The layout in which an engine takes an image: a tar of index, manifest and blobs."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import pytest

from loader.oci import Layout, blob_path, digest_of, member_header, member_size, padding, write_manifest
from tests.oci.handmade import CONTENTS, HEAD, IMAGE, NAME


def tar_of(layout: Layout) -> bytes:
    """Return the whole tar, put together from the parts of a layout and the contents."""
    members = b"".join(
        member_header(blob_path(digest), len(CONTENTS[digest])) + CONTENTS[digest] + padding(len(CONTENTS[digest]))
        for digest in layout.blobs
    )
    return b"".join(layout.listing()) + members + bytes(1024)


def files_of(tar: bytes) -> dict[str, bytes]:
    """Return the files of a tar as Python reads them; none stands twice."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        members = opened.getmembers()
        assert all(member.isreg() for member in members)
        assert len({member.name for member in members}) == len(members)
        return {member.name: opened.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def test_a_layout_is_a_tar_of_index_manifest_and_blobs() -> None:
    image = IMAGE.image
    layout = Layout(HEAD, image, image.layers)
    tar = tar_of(layout)
    assert layout.size == len(tar)
    files = files_of(tar)
    assert list(files) == ["oci-layout", "index.json", "manifest.json", *map(blob_path, layout.blobs)]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    (entry,) = index.pop("manifests")
    assert index == {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    assert entry == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.manifest,
        "size": len(IMAGE.manifest),
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1.4"},
    }
    (listed,) = json.loads(files["manifest.json"])
    assert listed["RepoTags"] == [NAME]
    assert digest_of(files[listed["Config"]]) == image.config
    assert [digest_of(files[path]) for path in listed["Layers"]] == list(image.layers)


def test_every_member_is_named_by_its_content() -> None:
    for name, data in files_of(tar_of(Layout(HEAD, IMAGE.image, IMAGE.image.layers))).items():
        if name.startswith("blobs/"):
            assert f"sha256:{name.removeprefix('blobs/sha256/')}" == digest_of(data)


def test_a_layer_that_stands_twice_in_a_chain_is_sent_once() -> None:
    image = IMAGE.image
    assert image.layers[0] == image.layers[2]
    assert Layout(HEAD, image, image.layers).blobs == (image.manifest, image.config, *image.layers[:2])


def test_size_and_blobs_are_found_out_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(HEAD, IMAGE.image, IMAGE.image.layers)
    size, blobs = layout.size, layout.blobs
    monkeypatch.delattr("loader.oci.member_size")
    assert layout.size == size
    assert layout.blobs is blobs
    assert layout == Layout(HEAD, IMAGE.image, IMAGE.image.layers)


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_layers_that_are_left_out_stay_in_the_lists(sent: int) -> None:
    image = IMAGE.image
    layout = Layout(HEAD, image, image.layers[3 - sent :])
    tar = tar_of(layout)
    assert layout.size == len(tar)
    files = files_of(tar)
    assert len(json.loads(files["manifest.json"])[0]["Layers"]) == 3
    assert len([name for name in files if name.startswith("blobs/")]) == 2 + sent


def test_a_variant_of_a_platform_is_told() -> None:
    image = replace(IMAGE.image, platform="linux/arm/v7")
    (entry,) = json.loads(files_of(tar_of(Layout(HEAD, image, ())))["index.json"])["manifests"]
    assert entry["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}


def test_the_same_layout_is_the_same_bytes() -> None:
    assert len({tar_of(Layout(HEAD, IMAGE.image, IMAGE.image.layers)) for _ in range(3)}) == 1


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 20, (8 << 30) - 1, 8 << 30, 1 << 40])
def test_a_member_of_any_size(size: int) -> None:
    """From 8 GiB on the size does not fit in the octal field of the header."""
    header = member_header("blobs/sha256/" + "a" * 64, size)
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size
    assert len(header) == 512
    assert member_size(size) == 512 + size + len(padding(size))
    assert member_size(size) % 512 == 0


def test_a_manifest_has_exactly_the_documented_bytes() -> None:
    config, layer = digest_of(b"config"), digest_of(b"layer")
    assert write_manifest((config, 6), [(layer, 5)]).decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":6}},'
        f'"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":5}}]}}'
    )
