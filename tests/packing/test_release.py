"""Version, serial and names of a release, and what no archive can hold."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from loader.crypto.archive_head import MAX_REFERENCES, Release
from loader.docker_engine import EngineImage
from loader.errors import SourceCorrupt, ValidationFailed
from loader.packing.release import full_references, require_room
from loader.references import LOADER_DOMAIN
from tests.packing.hand_sources import (
    docker_files,
    source_of,
    tar_of,
)
from tests.packing.lies import (
    IMAGE,
)
from tests.packing.packs import pack_path, refusal
from tests.packing.shared_images import APP, DATABASE, SOFT
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

SECONDS = 20.0


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


@pytest.mark.parametrize("platform", ["Linux/amd64", "linux/" + "a" * 60, "linux/amd64/v 1"])
def test_a_malformed_platform_is_told_before_an_engine_saves(platform: str) -> None:
    image = EngineImage(f"sha256:{'0' * 64}", (), 0, platform=platform)
    with pytest.raises(SourceCorrupt, match=f"The image docker.io/a/b:1 cannot be packed: its platform '{platform}'"):
        require_room(Release("1", 1, "2026-01-02T03:04:05Z"), {"docker.io/a/b:1": image})


@pytest.mark.parametrize("platform", ["", "linux", "linux/amd64", "linux/arm/v7"])
def test_an_engine_may_tell_the_platform_in_part(platform: str) -> None:
    image = EngineImage(f"sha256:{'0' * 64}", (), 0, platform=platform)
    require_room(Release("1", 1, "2026-01-02T03:04:05Z"), {"docker.io/a/b:1": image})


@pytest.mark.parametrize("name", [f"{LOADER_DOMAIN}/kept:1", f"{LOADER_DOMAIN}/absent"])
def test_no_archive_gets_a_name_of_the_loader_itself(tmp_path: Path, output: Path, name: str) -> None:
    with pytest.raises(ValidationFailed, match="the loader itself"):
        full_references([name])
    source = source_of(docker_files(HandmadeImage(name, (HandmadeLayer(b"layer", 1),))), tmp_path)
    with pytest.raises(SourceCorrupt, match="reference"):
        pack_path(source, output, version="7")
    assert not output.exists()


def test_a_name_that_only_looks_like_one_of_the_loader_is_packed() -> None:
    assert list(full_references([f"{LOADER_DOMAIN}.example/kept:1"])) == [f"{LOADER_DOMAIN}.example/kept:1"]
