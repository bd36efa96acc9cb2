"""An image is there only if it is exactly the image of the archive: its ID is the digest of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.references import full_reference
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.images import image_id, unnamed_images
from tests.support.unlocking import READY
from tests.unlock.watched_device import WatchedDevice, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

# The full name, because podman would load an image without a registry as `localhost/...`.
NAME = full_reference(APP)
# Images of reproducible builds: the same layers and the same time, but other settings.
LAYERS = (HandmadeLayer(b"a" * 4096),)
NEW = HandmadeImage(NAME, LAYERS, {"Env": ["MODE=new"], "Cmd": ["/run"], "User": "1000"})
OLD = {
    "Env": HandmadeImage(NAME, LAYERS, NEW.settings | {"Env": ["MODE=old"]}),
    "Cmd": HandmadeImage(NAME, LAYERS, NEW.settings | {"Cmd": ["/bin/sh"]}),
    "User": HandmadeImage(NAME, LAYERS, NEW.settings | {"User": "0"}),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return seal(tmp_path_factory.mktemp("archive") / "images.enc", [NEW]).read_bytes()


def assert_replaced(watched: WatchedDevice, engine: Engine, archive: bytes, old: HandmadeImage) -> None:
    """Require that an unlock replaces `old`, which the engine has, by the image of the archive."""
    engine.client.images.load(b"".join(docker_archive(old)))
    before = engine.client.api.inspect_image(NAME)
    plan = watched.plan(archive)
    assert ([image["present"] for image in plan["images"]], plan["done"]) == ([False], False)

    assert watched.unlock(archive) == READY

    after = engine.client.api.inspect_image(NAME)
    assert {name: after["Config"][name] for name in NEW.settings} == NEW.settings
    assert image_id(engine, NAME).removeprefix("sha256:") == NEW.image.config.removeprefix("sha256:")
    assert (after["RootFS"], after["Created"]) == (before["RootFS"], before["Created"])
    assert after["Id"] != before["Id"]
    assert unnamed_images(engine) == []
    assert len(watched.loads) == 1
    assert watched.plan(archive)["done"] is True


@pytest.mark.parametrize("setting", OLD)
def test_an_image_with_other_settings_is_replaced(
    watched: WatchedDevice, docker: Engine, archive: bytes, setting: str
) -> None:
    assert_replaced(watched, docker, archive, OLD[setting])


@pytest.mark.long
def test_an_image_with_other_settings_is_replaced_in_podman(podman: Engine, archive: bytes, tmp_path: Path) -> None:
    with watched_device(tmp_path, podman, "stream") as watched:
        assert_replaced(watched, podman, archive, OLD["Cmd"])


def test_an_image_whose_configuration_is_only_written_in_another_way_is_another_image(
    watched: WatchedDevice, docker: Engine, archive: bytes
) -> None:
    """The ID is the digest of the configuration, so that the order of two fields already makes another image."""
    assert_replaced(watched, docker, archive, HandmadeImage(NAME, LAYERS, dict(reversed(NEW.settings.items()))))


def test_the_same_image_is_present(watched: WatchedDevice, docker: Engine, archive: bytes) -> None:
    docker.client.images.load(b"".join(docker_archive(NEW)))
    assert watched.plan(archive)["done"] is True
    assert watched.unlock(archive) == READY
    assert watched.loads == []
    assert watched.api_paths == []
