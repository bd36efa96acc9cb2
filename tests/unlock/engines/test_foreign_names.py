"""Names that a source has besides those that were packed never reach an engine, whose own names stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packing.hand_sources import TAG, Files, docker_files, finish_layout, named, put_image, tar_of
from tests.packing.packs import pack_path
from tests.support.archives import PREFIX
from tests.support.unlocking import READY
from tests.unlock.engines.releases import NAMES, NEW, OTHERS
from tests.unlock.engines.scene import Scene

pytest_plugins = ("tests.support.unlock_fixtures",)

# A name that the engine has for another image, and one that it does not have.
FOREIGN = [OTHERS[0].reference, OTHERS[1].reference, f"docker.io/{PREFIX}foreign:1"]
# The file that tells the names in the oldest form of `docker save`; Docker 20.10 reads it without manifest.json.
REPOSITORIES = json.dumps({f"{PREFIX}other": {"7": "0" * 64}, f"{PREFIX}foreign": {"2": "0" * 64}}).encode()


def docker_archive_of_many_names() -> Files:
    files = docker_files(*NEW)
    entries = json.loads(files["manifest.json"])
    entries[0]["RepoTags"] += FOREIGN
    return files | {"manifest.json": json.dumps(entries).encode(), "repositories": REPOSITORIES}


def oci_layout_of_many_names() -> Files:
    files: Files = {}
    descriptors = [put_image(files, image) for image in NEW]
    own = [descriptor | named(name) for descriptor, name in zip(descriptors, NAMES, strict=True)]
    foreign = [descriptors[1] | named(name) for name in FOREIGN[:2]]
    other_form = descriptors[1] | {"annotations": {TAG: FOREIGN[2]}}
    return finish_layout(files, *own, *foreign, other_form) | {"repositories": REPOSITORIES}


SOURCES = {"docker-archive": docker_archive_of_many_names, "OCI layout": oci_layout_of_many_names}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_only_the_names_of_the_archive_reach_the_engine(
    scene: Scene, tmp_path: Path, source: Callable[[], Files]
) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(source()))
    archive = tmp_path / "packed.enc"
    assert pack_path(origin, archive, NAMES, version="1.4", serial=2).images == tuple(image.image for image in NEW)
    assert scene.unlock(archive) == READY
    scene.assert_updated()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_the_same_source_brings_all_names_if_all_are_packed(tmp_path: Path, source: Callable[[], Files]) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(tar_of(source()))
    head = pack_path(origin, tmp_path / "packed.enc", version="1.4")
    assert {image.reference for image in head.images} == {*NAMES, *FOREIGN}
