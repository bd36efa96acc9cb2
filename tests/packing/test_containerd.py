"""The containerd store: it has an image by its manifest or its index, and several platforms under one name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.errors import ImageNotFound, SourceCorrupt, ValidationFailed
from loader.packing.pack import Wishes, pack
from loader.packing.release import full_references
from loader.packing.sources import EngineSource, find_images
from tests.packing.matrix_devices import assert_exact, nothing_else_appears, unlock
from tests.packing.matrix_packers import IMAGE, IMAGES, PLATFORMS, attested_layout
from tests.packing.packs import pack_path, unwatched
from tests.packing.test_engines import connected, pack_from
from tests.support.archives import APP, DATABASE, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, docker_archive
from tests.support.images import image_id, unnamed_images


@pytest.fixture
def containerd(docker_containerd_26: Engine) -> Iterator[Engine]:
    """The engine with the containerd store, from which the images of the tests are removed afterwards."""
    yield docker_containerd_26
    remove_all_images(docker_containerd_26)


def load(engine: Engine, tar: bytes) -> None:
    list(engine.client.api.load_image(tar))


def test_a_tag_that_moves_before_the_save_is_noticed(
    containerd: Engine, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(containerd, b"".join(docker_archive(*IMAGES)))
    engine = connected(containerd.host, monkeypatch)
    source = EngineSource(engine, find_images(engine, full_references([APP])), None)
    pack(source, Wishes(), FRAGMENT, output, unwatched)
    output.unlink()
    containerd.client.api.tag(DATABASE, *APP.split(":"))
    with pytest.raises(SourceCorrupt, match="the tag moved meanwhile"):
        pack(source, Wishes(), FRAGMENT, output, unwatched)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("architecture", PLATFORMS)
def test_the_wanted_one_of_several_platforms_is_packed(
    containerd: Engine, output: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """This version of the API saves all platforms."""
    load(containerd, attested_layout())
    head = pack_from(connected(containerd.host, monkeypatch), output, APP, platform=f"linux/{architecture}")
    assert head.images == (PLATFORMS[architecture].image,)
    assert image_id(containerd, APP) not in head.images[0].ids


@pytest.mark.parametrize(
    ("platform", "error"), [(None, ValidationFailed), ("linux/s390x", ImageNotFound)], ids=["none", "absent"]
)
def test_no_platform_is_guessed(
    containerd: Engine,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str | None,
    error: type[Exception],
) -> None:
    load(containerd, attested_layout())
    with pytest.raises(error, match="linux/amd64, linux/arm64"):
        pack_from(connected(containerd.host, monkeypatch), output, APP, platform=platform)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


@pytest.mark.parametrize("before", [attested_layout(), b"".join(docker_archive(IMAGE))], ids=["index", "own manifest"])
def test_the_same_configuration_under_another_manifest_is_replaced(
    containerd: Engine, output: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """The archive names one manifest, and an image under another one is not proven to be the same."""
    source = output.with_name("source.tar")
    source.write_bytes(attested_layout())
    head = pack_path(source, output, version="1.4", platform="linux/amd64")
    monkeypatch.setenv("DOCKER_HOST", containerd.host)
    with nothing_else_appears(containerd, head.images):
        load(containerd, before)
        assert image_id(containerd, APP) != head.images[0].manifest
        unlock(output, "stream")
        assert_exact(containerd, head.images, output.parent)
        assert unnamed_images(containerd) == []
