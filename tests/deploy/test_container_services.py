"""deploy/compose.services.yaml: a container loads models by the socket and by the network, and can do nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.deploy.base_image import PYTHON
from tests.deploy.composed import Composed, composed
from tests.support.engines import Engine
from tests.support.http_calls import CREDENTIALS, EMAIL, PASSWORD, post_json, upload
from tests.support.resource_api_server import ResourceApiServer

pytest_plugins = ("tests.support.unlock_fixtures", "tests.deploy.container_fixtures")
pytestmark = pytest.mark.long

CONTENT = bytes(range(256)) * 8192
FORBIDDEN = ("/unlock", "/lock", "/login", "/cache")
# Sends the requests of a service, by a socket or by a port of nginx, with nothing but Python.
CLIENT = """
import hashlib, http.client, socket, sys
way, method, path = sys.argv[1:]
if way == "socket":
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/azaion-models/models.sock")
else:
    connection = http.client.HTTPConnection("loader-models", int(way))
connection.request(method, path, headers={"Host": "loader.example"} if way == "80" else {})
response = connection.getresponse()
print(response.status, hashlib.sha256(response.read()).hexdigest())
"""


@pytest.fixture(scope="module")
def services(
    engine: Engine,
    image: dict[str, object],  # noqa: ARG001  # makes the image of the loader
    device_disk: Path,
    device_api: ResourceApiServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Composed]:
    """The services, of which the loader is logged in and has a model."""
    device_api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    home = tmp_path_factory.mktemp("compose") / "home"
    with composed(engine, home, device_disk, device_api.url, PYTHON) as running:
        assert post_json(running.url, "/login", CREDENTIALS).status == 200
        assert upload(running.url, "day", "m", CONTENT).status == 200
        yield running


def ask(services: Composed, way: str, method: str, path: str) -> list[str]:
    """Send a request from the container, and return the status and the hash of the body."""
    done = services.detector.exec_run(["python", "-c", CLIENT, way, method, path], user="12345:12345")
    assert done.exit_code == 0, done.output
    return list(done.output.decode().split())


@pytest.mark.parametrize("way", ["socket", "8081"])
def test_a_service_loads_a_model_and_can_do_nothing_else(services: Composed, way: str) -> None:
    assert ask(services, way, "GET", "/models/day/m") == ["200", hashlib.sha256(CONTENT).hexdigest()]
    for path in FORBIDDEN:
        for method in ("GET", "POST"):
            assert ask(services, way, method, path)[0] == "403", path
    assert ask(services, way, "GET", "/models/day/m")[0] == "200"


def test_a_service_cannot_use_the_port_of_the_operators(services: Composed) -> None:
    for path in ("/", *FORBIDDEN):
        assert ask(services, "80", "POST", path)[0] == "403", path
    assert ask(services, "8081", "GET", "/models/day/m")[0] == "200"
