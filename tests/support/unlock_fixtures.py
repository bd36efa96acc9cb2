"""Fixtures of the unlock tests. Test modules name this plugin in `pytest_plugins` and never import it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.archives import Packed, remove_all_images, sealed_images
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import FRAGMENT
from tests.support.loader_server import LoaderServer
from tests.support.resource_api_server import ResourceApiServer
from tests.support.unlocking import EMAIL, LOAD, PASSWORD, Rig, UnlockDevice


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """An archive of two images, of which one has at least four segments."""
    return sealed_images(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def _session_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    with ResourceApiServer(tmp_path_factory.mktemp("unlock-api")) as server:
        server.add_user(EMAIL, PASSWORD)
        server.set_fragment(FRAGMENT)
        yield server


@pytest.fixture
def unlock_api(_session_api: ResourceApiServer) -> ResourceApiServer:
    """A reference API with the user `EMAIL` and the key fragment `FRAGMENT`, without recorded requests."""
    _session_api.forget_requests()
    return _session_api


@pytest.fixture
def unlock_device(
    device_dir: Path, unlock_api: ResourceApiServer, start_loader: Callable[..., LoaderServer]
) -> UnlockDevice:
    """A device without an archive."""
    return UnlockDevice(device_dir, unlock_api, start_loader)


@pytest.fixture(scope="module")
def _module_rig(
    request: pytest.FixtureRequest,
    docker_engine: Engine,
    _session_api: ResourceApiServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("rig")
    (directory / "device" / "models").mkdir(parents=True)
    with ExitStack() as running:
        wire = running.enter_context(FaultyWire(directory / "docker.sock", docker_engine.socket, LOAD))

        def start(*gunicorn_args: str, **env: str) -> LoaderServer:
            paths = {
                "IMAGES_PATH": str(directory / "device" / "images.enc"),
                "MODEL_CACHE_DIR": str(directory / "device" / "models"),
            }
            return running.enter_context(LoaderServer(directory, {**paths, **env}, *gunicorn_args))

        env = getattr(request.module, "RIG_ENV", {})
        yield Rig(UnlockDevice(directory / "device", _session_api, start), docker_engine, wire, **env)


@pytest.fixture
def rig(_module_rig: Rig) -> Iterator[Rig]:
    """A running loader that all tests of the module share; see `Rig`. `RIG_ENV` of the module configures it."""
    _module_rig.device.api.forget_requests()
    yield _module_rig
    _module_rig.clean()


@pytest.fixture
def docker(docker_engine: Engine) -> Iterator[Engine]:
    """The Docker engine, from which the images of the tests are removed afterwards."""
    yield docker_engine
    remove_all_images(docker_engine)


@pytest.fixture
def podman(podman_engine: Engine) -> Iterator[Engine]:
    """The podman service, from which the images of the tests are removed afterwards."""
    yield podman_engine
    remove_all_images(podman_engine)


@pytest.fixture
def wire(docker: Engine, tmp_path: Path) -> Iterator[FaultyWire]:
    """A connection to the Docker engine that can be slow, stop or break during a load."""
    with FaultyWire(tmp_path / "wire.sock", docker.socket, LOAD) as wire:
        yield wire


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect garbage at the end of a test that cannot connect.

    The SDK leaves the socket open. It must be collected while the test still ignores the warning about it.
    """
    yield
    gc.collect()
