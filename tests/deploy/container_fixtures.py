"""Fixtures for the tests of the container: the image and the services. A plugin, named in `pytest_plugins`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.base_image import NGINX, PYTHON, download_wheels, nginx_image, python_image
from tests.deploy.careless_checkout import careless_checkout
from tests.deploy.composed import IMAGE, USER, Composed, composed
from tests.deploy.composed_api import API_IMAGE
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.images import image_id, remove_image
from tests.support.missing import missing
from tests.support.processes import clean_env
from tests.support.resource_api_server import ResourceApiServer
from tests.support.unlocking import EMAIL, PASSWORD

BUILD_SECONDS = 180


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout that the image is built from."""
    return careless_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def engine(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has the base images under the names of the public registry."""
    if docker_engine.process is None or shutil.which("docker") is None:
        missing("docker command with an engine of the tests' own", "the test would replace public images there")
    wheels = download_wheels(tmp_path_factory.mktemp("wheels"))
    api = docker_engine.client.api
    api.import_image_from_data(python_image(wheels), repository=PYTHON)
    api.import_image_from_data(nginx_image(), repository=NGINX, changes=['CMD ["nginx", "-g", "daemon off;"]'])
    yield docker_engine
    for reference in (NGINX, PYTHON):
        remove_image(docker_engine, reference)


@pytest.fixture(scope="module")
def image(engine: Engine, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The engine's description of the image."""
    yield make_image(engine, checkout, tmp_path_factory.mktemp("home"), "image", IMAGE)
    for reference in (IMAGE, "azaion-loader:latest"):
        remove_image(engine, reference)


@pytest.fixture(scope="module")
def api_image(engine: Engine, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The engine's description of the image of the API."""
    yield make_image(engine, checkout, tmp_path_factory.mktemp("home"), "image-api", API_IMAGE)
    for reference in (API_IMAGE, "azaion-resource-api:latest"):
        remove_image(engine, reference)


def make_image(engine: Engine, checkout: Path, home: Path, target: str, reference: str) -> dict[str, Any]:
    """Run make with a target that builds an image, and return the engine's description of the image `reference`."""
    # The classic builder, because the newer one needs a plugin; the image is the same.
    env = clean_env(home, DOCKER_HOST=engine.host, DOCKER_BUILDKIT="0")
    done = subprocess.run(
        ["make", target], cwd=checkout, env=env, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    described: dict[str, Any] = engine.client.api.inspect_image(reference)
    return described


@pytest.fixture(scope="module")
def device_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a device, owned by the container's user."""
    directory = tmp_path_factory.mktemp("device")
    os.chown(directory, USER, USER)
    return directory


@pytest.fixture(scope="module")
def device_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    """A reference API that knows the operator, and the key fragment of the tests."""
    with ResourceApiServer(tmp_path_factory.mktemp("api")) as server:
        server.add_user(EMAIL, PASSWORD)
        server.set_fragment(FRAGMENT)
        yield server


@pytest.fixture(scope="module")
def running(
    engine: Engine,
    image: dict[str, Any],
    device_disk: Path,
    device_api: ResourceApiServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Composed]:
    """The services of deploy/compose.yaml. The fixture also tests that they become healthy."""
    assert image["Id"] == image_id(engine, "azaion-loader:latest")
    with composed(engine, tmp_path_factory.mktemp("compose") / "home", device_disk, device_api.url) as services:
        yield services
