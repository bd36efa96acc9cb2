"""Images that Docker 26.1 has in its containerd store, and that a disk has damaged: what is lost is removed there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.binary_split import open_archive
from loader.docker_engine import DockerEngine
from loader.unlock.layers import layouts_of
from tests.docker_engine.connecting import authenticated, connected
from tests.support.archives import APP, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import holds

HANDMADE = HandmadeImage(APP, (HandmadeLayer(b"broken later"),))
IMAGE = HANDMADE.image


@pytest.fixture
def engine(docker_containerd_26: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    yield connected(docker_containerd_26.host, monkeypatch)
    remove_all_images(docker_containerd_26)


@pytest.fixture
def tar(tmp_path: Path) -> bytes:
    """The layout of IMAGE."""
    with open_archive(seal(tmp_path / "images.enc", [HANDMADE])) as archive:
        contents = authenticated(archive)
        (layout,) = layouts_of(contents.head, set())
        return b"".join(map(bytes, contents.layout(layout, contents.content)))


def store(engine: Engine, place: str) -> Path:
    return engine.socket.with_name("data") / "containerd" / "daemon" / place


@pytest.mark.parametrize("part", ["manifest", "config"])
def test_an_image_without_its_description_is_not_there_and_a_load_repairs_it(
    part: str, engine: DockerEngine, tar: bytes, docker_containerd_26: Engine
) -> None:
    engine.load(iter([tar]))
    digest = getattr(IMAGE, part).removeprefix("sha256:")
    (store(docker_containerd_26, "io.containerd.content.v1.content") / "blobs" / "sha256" / digest).unlink()
    assert engine.find(IMAGE.reference) is None
    engine.load(iter([tar]))
    assert engine.can_run(IMAGE)


def test_an_image_whose_unpacked_files_are_lost_must_be_removed_before_a_load_repairs_it(
    engine: DockerEngine, tar: bytes, docker_containerd_26: Engine
) -> None:
    """What containerd knows of the files stays, so that it does not unpack them again."""
    engine.load(iter([tar]))
    assert engine.can_run(IMAGE)
    for snapshot in store(docker_containerd_26, "io.containerd.snapshotter.v1.overlayfs/snapshots").iterdir():
        shutil.rmtree(snapshot)
    assert holds(engine, [IMAGE])
    assert not engine.can_run(IMAGE)
    engine.load(iter([tar]))
    assert not engine.can_run(IMAGE)
    docker_containerd_26.client.api.remove_image(IMAGE.reference)
    engine.load(iter([tar]))
    assert engine.can_run(IMAGE)
