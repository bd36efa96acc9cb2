"""Images with several names: each image is sent once, and gets its further names by a tag."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.unlock.layers import layouts_of
from tests.support.archives import APP, DATABASE, PREFIX, head_of, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.images import image_id, import_image, unnamed_images
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.watched_device import WatchedDevice, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

LAYERS = (HandmadeLayer(b"a" * 4096),)
NAMES = [APP, DATABASE, f"{PREFIX}third:1"]
IMAGES = [HandmadeImage(name, LAYERS) for name in NAMES]
ID = IMAGES[0].image.config
OTHER = HandmadeImage(f"{PREFIX}other:1", (HandmadeLayer(b"b" * 8192),))
MOST_NAMES = 256
TAG = r"/tag$"
REFUSAL = (500, {"message": "not now"})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return seal(tmp_path_factory.mktemp("archive") / "images.enc", IMAGES).read_bytes()


def tags(watched: WatchedDevice) -> int:
    """Return how many tags the loader has set."""
    return len(watched.wire.sent("POST", TAG))


def test_further_names_are_tagged_without_a_second_load(watched: WatchedDevice, docker: Engine, archive: bytes) -> None:
    assert watched.unlock(archive) == READY
    assert (len(watched.loads), tags(watched)) == (1, 2)
    assert {name: image_id(docker, name) for name in NAMES} == dict.fromkeys(NAMES, ID)


def test_further_names_are_tagged_in_podman(podman: Engine, archive: bytes, tmp_path: Path) -> None:
    with watched_device(tmp_path, podman, "stream") as watched:
        assert watched.unlock(archive) == READY
        assert (len(watched.loads), tags(watched)) == (1, 2)
    assert {image_id(podman, name).removeprefix("sha256:") for name in NAMES} == {ID.removeprefix("sha256:")}


def test_an_image_that_is_there_under_one_name_is_only_tagged(
    watched: WatchedDevice, docker: Engine, archive: bytes
) -> None:
    docker.client.images.load(b"".join(docker_archive(IMAGES[1])))
    import_image(docker, APP)  # its image loses its only name
    plan = watched.plan(archive)
    assert [image["present"] for image in plan["images"]] == [False, True, False]
    assert plan["work"] == {"to_read": 0, "to_send": 0, "to_unpack": 0}
    assert watched.unlock(archive) == READY
    pins = 2  # of the two images that were there
    assert (len(watched.loads), tags(watched)) == (0, 2 + pins)
    assert {name: image_id(docker, name) for name in NAMES} == dict.fromkeys(NAMES, ID)
    assert unnamed_images(docker) == []


def test_a_refused_tag_restores_all_names(watched: WatchedDevice, docker: Engine, archive: bytes) -> None:
    before = import_image(docker, DATABASE)
    watched.wire.answer(r"/tag\?.*third", *REFUSAL)
    assert_failed(watched.unlock(archive), "ENGINE_REJECTED")
    assert len(watched.loads) == 1
    assert tags_of_tests(docker) == [DATABASE]
    assert image_id(docker, DATABASE) == before
    assert unnamed_images(docker) == []
    watched.assert_no_plaintext()


def test_a_refused_load_restores_the_names_of_all_images(
    watched: WatchedDevice, docker: Engine, tmp_path: Path
) -> None:
    """The first image was loaded when the second is refused."""
    path = seal(tmp_path / "images.enc", [*IMAGES, OTHER], version="1.4")
    before = {name: import_image(docker, name, seed=number) for number, name in enumerate(NAMES[:2])}
    second = list(layouts_of(head_of(path), set()))[1]
    watched.wire.answer("/images/load", *REFUSAL, body_size=second.size)
    assert_failed(watched.unlock(path.read_bytes()), "ENGINE_REJECTED")
    assert len(watched.loads) == 2
    assert {name: image_id(docker, name) for name in before} == before
    assert tags_of_tests(docker) == sorted(before)
    assert unnamed_images(docker) == []


def test_an_image_with_as_many_names_as_an_archive_may_have_is_sent_once(docker: Engine, tmp_path: Path) -> None:
    images = [HandmadeImage(f"{APP}.{number}", LAYERS) for number in range(MOST_NAMES)]
    path = seal(tmp_path / "images.enc", images, version="1.4")
    with watched_device(tmp_path, docker, "stream") as watched:
        assert watched.unlock(path.read_bytes()) == READY
        assert (len(watched.loads), tags(watched)) == (1, MOST_NAMES - 1)
    assert len(docker.client.images.get(ID).tags) == MOST_NAMES
