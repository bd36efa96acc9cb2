"""What skopeo writes is packed: docker-archives and OCI layouts, as tars and as directories."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packing.packs import pack_path
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.missing import missing

SHARED = HandmadeLayer(b"shared" * 1000, 30)
IMAGE = HandmadeImage("skopeo.example/app:1.4", (SHARED, HandmadeLayer(b"own" * 1000, 20), SHARED), {"User": "app"})


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("skopeo") is None:
        missing("skopeo", "it is not installed")
    path = tmp_path_factory.mktemp("skopeo") / "origin.tar"
    path.write_bytes(b"".join(docker_archive(IMAGE)))
    return path


def copy(origin: Path, *target: str) -> None:
    source = f"docker-archive:{origin}:{IMAGE.reference}"
    subprocess.run(["skopeo", "--insecure-policy", "copy", source, *target], check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci"])
def test_a_copy_of_skopeo_is_packed(kind: str, origin: Path, tmp_path: Path) -> None:
    copy(origin, f"{kind}:{tmp_path}/copy:{IMAGE.reference}")
    (image,) = pack_path(tmp_path / "copy", tmp_path / "images.enc").images
    assert image.reference == IMAGE.reference
    assert image.layers == IMAGE.image.layers


def test_a_docker_archive_of_skopeo_keeps_the_id(origin: Path, tmp_path: Path) -> None:
    copy(origin, f"docker-archive:{tmp_path}/copy:{IMAGE.reference}")
    assert pack_path(tmp_path / "copy", tmp_path / "images.enc").images == (IMAGE.image,)


def test_a_bare_tag_of_skopeo_is_no_name(origin: Path, tmp_path: Path) -> None:
    copy(origin, f"oci:{tmp_path}/copy:latest")
    (image,) = pack_path(tmp_path / "copy", tmp_path / "images.enc", ["registry:5000/named:2"]).images
    assert image.reference == "registry:5000/named:2"
    assert image.layers == IMAGE.image.layers


def test_several_images_of_one_layout_are_packed(origin: Path, tmp_path: Path) -> None:
    for name in ("first.example/app:1.4", "second.example/app:1.4"):
        copy(origin, f"oci:{tmp_path}/copy:{name}")
    head = pack_path(tmp_path / "copy", tmp_path / "images.enc")
    assert [image.reference for image in head.images] == ["first.example/app:1.4", "second.example/app:1.4"]
    assert len(head.blobs) == 4
