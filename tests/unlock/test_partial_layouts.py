"""Layers that the engine got in this run are left out of the next layouts, and sent after all if it lacks them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from loader.crypto.archive_head import Head
from loader.unlock.layers import layouts_of
from tests.support.archives import PREFIX, head_of, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id, import_image, save_images, unnamed_images
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.watched_device import MODES, WatchedDevice, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

BASE, MIDDLE, TOP, OTHER = (HandmadeLayer(bytes([letter]) * 4096, name=f"{letter:c}.bin") for letter in b"abcd")
# The layers of the images of one archive. The last image has known layers, but not at the bottom of its chain.
CHAINS = {"service:1.4": (BASE, MIDDLE), "tool:1.4": (BASE, MIDDLE, TOP), "other:1.4": (OTHER, BASE)}
IMAGES = [HandmadeImage(PREFIX + name, layers) for name, layers in CHAINS.items()]
LEFT_OUT = [0, 2, 0]
REFUSAL = (500, {"message": "a layer is absent"})
EMPTY_SUCCESS = (200, {"stream": "Loaded image"})


def expected_blobs(left_out: Sequence[int]) -> list[list[str]]:
    """Return the blobs of each layout if this many layers are left out at the bottom of each image."""
    images = [image.image for image in IMAGES]
    return [
        [image.manifest, image.config, *image.layers[count:]] for image, count in zip(images, left_out, strict=True)
    ]


def saved_layers(engine: Engine, reference: str, path: Path) -> list[str]:
    """Return the digests of the layers that the engine saves, computed from their content."""
    with tarfile.open(save_images(engine, [reference], path)) as tar:
        (listing,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        contents = [tar.extractfile(layer).read() for layer in listing["Layers"]]  # type: ignore[union-attr]
    return [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]


def assert_whole(engine: Engine, images: Sequence[HandmadeImage], directory: Path) -> None:
    """Require that the engine has exactly these images, and can give back all of their layers."""
    for image in images:
        found = engine.client.api.inspect_image(image.image.reference)
        assert found["Id"].removeprefix("sha256:") == image.image.config.removeprefix("sha256:")
        assert tuple(found["RootFS"]["Layers"]) == image.image.layers
        saved = saved_layers(engine, image.image.reference, directory / "saved.tar")
        assert saved == list(image.image.layers)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seal(tmp_path_factory.mktemp("archive") / "images.enc", IMAGES)


@pytest.fixture(scope="module")
def head(archive: Path) -> Head:
    return head_of(archive)


def test_the_images_of_docker_are_whole_although_layers_were_left_out(
    watched: WatchedDevice, docker: Engine, archive: Path, tmp_path: Path
) -> None:
    assert watched.unlock(archive.read_bytes()) == READY
    assert watched.sent_blobs == expected_blobs(LEFT_OUT)
    assert_whole(docker, IMAGES, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_the_images_of_podman_are_whole_although_layers_were_left_out(
    podman: Engine, archive: Path, tmp_path: Path, mode: str
) -> None:
    with watched_device(tmp_path, podman, mode) as watched:
        assert watched.unlock(archive.read_bytes()) == READY
        assert watched.sent_blobs == expected_blobs(LEFT_OUT)
    assert_whole(podman, IMAGES, tmp_path)


@pytest.mark.parametrize("response", [REFUSAL, EMPTY_SUCCESS], ids=["refused", "not there afterwards"])
def test_an_engine_that_fails_on_a_partial_layout_gets_the_whole_image_once(
    watched: WatchedDevice, docker: Engine, archive: Path, head: Head, tmp_path: Path, response: tuple[int, object]
) -> None:
    partial = list(layouts_of(head, set()))[1]
    watched.wire.answer("/images/load", *response, body_size=partial.size)
    assert watched.unlock(archive.read_bytes()) == READY
    service, tool, other = expected_blobs(LEFT_OUT)
    assert watched.sent_blobs == [service, tool, expected_blobs([0, 0, 0])[1], other]
    watched.assert_no_plaintext()
    assert_whole(docker, IMAGES, tmp_path)


@pytest.mark.parametrize(
    ("response", "code"), [(REFUSAL, "ENGINE_REJECTED"), (EMPTY_SUCCESS, "IMAGE_MISMATCH")], ids=["refused", "absent"]
)
def test_a_second_failure_is_the_error_and_all_names_are_restored(
    watched: WatchedDevice, docker: Engine, archive: Path, head: Head, response: tuple[int, object], code: str
) -> None:
    before = {image.reference: import_image(docker, image.reference, seed=7) for image in IMAGES[:2]}
    size = sum(layout.size for layout in layouts_of(head, {IMAGES[0].image.reference, IMAGES[2].image.reference}))
    partial = list(layouts_of(head, set()))[1]
    watched.wire.answer("/images/load", *REFUSAL, body_size=partial.size)
    watched.wire.answer("/images/load", *response, body_size=size)
    assert_failed(watched.unlock(archive.read_bytes()), code)
    assert watched.sent_blobs[1:] == [expected_blobs(LEFT_OUT)[1], expected_blobs([0, 0, 0])[1]]
    assert {reference: image_id(docker, reference) for reference in before} == before
    assert tags_of_tests(docker) == sorted(before)
    assert unnamed_images(docker) == []
    watched.assert_no_plaintext()


def test_a_refusal_of_a_whole_layout_is_the_error_at_once(
    watched: WatchedDevice, docker: Engine, archive: Path, head: Head
) -> None:
    first = next(layouts_of(head, set()))
    watched.wire.answer("/images/load", *REFUSAL, body_size=first.size)
    assert_failed(watched.unlock(archive.read_bytes()), "ENGINE_REJECTED")
    assert watched.sent_blobs == expected_blobs(LEFT_OUT)[:1]
    assert tags_of_tests(docker) == []
    watched.assert_no_plaintext()
