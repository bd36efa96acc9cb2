"""The image of deploy/Dockerfile-api, and deploy/compose-api.yaml, started with the engine of this machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from loader.version import VERSION
from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.deploy.composed import HEALTHY_SECONDS, USER, compose
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.images import remove_image
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env, poll

pytest_plugins = ("tests.deploy.container_fixtures",)

COMPOSE_FILE = REPOSITORY / "deploy" / "compose-api.yaml"
IMAGE = f"azaion-resource-api:{VERSION}"
PROJECT = "composed-api"
BUILD_SECONDS = 180
SERVERS = ("api-1", "api-2")
DEVICE, FRAGMENT = "device-7", bytes(range(32))


@dataclass(frozen=True)
class ComposedApi:
    """The three services, started and healthy. `state` is the directory that the servers read."""

    engine: Engine
    home: Path
    files: list[Path]
    env: dict[str, str]
    state: DataDirectory
    authority: str
    secret: str

    def run(self, *arguments: str) -> None:
        """Run compose, which must succeed."""
        done = compose(self.home, self.files, *arguments, project=PROJECT, **self.env)
        assert done.returncode == 0, done.stderr

    def container(self, service: str) -> Container:
        """Return the container of a service, as it is now."""
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        (found,) = self.engine.client.containers.list(all=True, filters={"label": labels})
        return found

    def wait_until_healthy(self, service: str) -> None:
        """Wait for the health check of a server."""
        poll(
            lambda: self.container(service).attrs["State"]["Health"]["Status"] == "healthy",
            HEALTHY_SECONDS,
            f"{service} is healthy",
        )

    def client(self, code: str) -> Any:
        """Run Python code that sends requests to nginx by `call`, and return the JSON that it prints.

        It runs beside nginx, because the container of nginx has no network of this machine here.
        """
        network = f"container:{self.container('nginx').id}"
        variables = {"AUTHORITY": self.authority, "SECRET": self.secret}
        command = ["python", "-c", CLIENT + code]
        done = self.engine.client.containers.run(
            IMAGE, command, network_mode=network, remove=True, environment=variables
        )
        return json.loads(done)


CLIENT = f"""
import http.client, json, os, ssl
context = ssl.create_default_context(cadata=os.environ["AUTHORITY"])

def call(method, path, body=None, **headers):
    connection = http.client.HTTPSConnection("localhost", 443, timeout=30, context=context)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()

def post(path, document, **headers):
    return call("POST", path, json.dumps(document), **headers, **{{"Content-Type": "application/json"}})

status, body = post("/login", {{"email": "{DEVICE}", "password": os.environ["SECRET"]}})
bearer = {{"Authorization": "Bearer " + json.loads(body)["token"]}}
"""


@pytest.fixture(scope="module")
def image(engine: Engine, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The engine's description of the image of the API."""
    env = clean_env(tmp_path_factory.mktemp("home"), DOCKER_HOST=engine.host, DOCKER_BUILDKIT="0")
    done = subprocess.run(
        ["make", "image-api"],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield engine.client.api.inspect_image(IMAGE)
    for reference in (IMAGE, "azaion-resource-api:latest"):
        remove_image(engine, reference)


@pytest.fixture(scope="module")
def running(engine: Engine, image: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedApi]:
    assert image["Config"]["User"] == f"{USER}:{USER}"
    place = tmp_path_factory.mktemp("composed-api")
    state = DataDirectory.create(place / "state")
    Fragments(state).set(FRAGMENT)
    _, _, secret = Users(state).set_secret(DEVICE, Role.PUBLISHER)
    own(state)
    tls = place / "tls"
    tls.mkdir()
    authority = Authority(place)
    signed = authority.sign("server")
    signed.certificate.rename(tls / "fullchain.pem")
    signed.key.rename(tls / "key.pem")
    for path in (place, tls, *tls.iterdir()):
        path.chmod(0o755)
    # nginx has no network here, and Debian's uses /var/lib/nginx where the official image uses /var/cache/nginx.
    differences = {
        **{name: {"healthcheck": {"interval": "1s"}} for name in SERVERS},
        "nginx": {"network_mode": "none", "tmpfs": ["/var/lib/nginx:mode=0700,uid=101,size=1m"]},
    }
    override = place / "override.json"
    override.write_text(json.dumps({"services": differences}))
    home = place / "home"
    home.mkdir()
    files = [configured(place), override]
    env = {"STATE_DIR": str(state.root), "TLS_DIR": str(tls), "DOCKER_HOST": engine.host}
    made = ComposedApi(engine, home, files, env, state, authority.path.read_text(), secret)
    try:
        made.run("up", "--detach")
        for name in SERVERS:
            made.wait_until_healthy(name)
        yield made
    finally:
        compose(home, files, "down", "--volumes", project=PROJECT, **env)


def configured(place: Path) -> Path:
    """Return a copy of the compose file, beside one of nginx-api.conf with the name of the tests."""
    text = (COMPOSE_FILE.parent / "nginx-api.conf").read_text()
    assert "api.example" in text
    (place / "nginx-api.conf").write_text(text.replace("api.example", "localhost"))
    copy = place / COMPOSE_FILE.name
    copy.write_text(COMPOSE_FILE.read_text())
    return copy


def own(state: DataDirectory) -> None:
    """Give the state to the user of the container."""
    for path in (state.root, *state.root.rglob("*")):
        os.chown(path, USER, USER)


def test_a_device_gets_its_fragment_over_tls(running: ComposedApi) -> None:
    code = """
got = call("GET", "/binary-split/key-fragment", **bearer)
print(json.dumps([got[0], got[1].hex()]))
"""
    assert running.client(code) == [200, FRAGMENT.hex()]


def test_an_upload_in_parts_and_a_download_survive_the_end_of_one_server(running: ComposedApi) -> None:
    begin = """
_, begun = post("/uploads", {"name": "models/x.big", "size": 9 << 20}, **bearer)
begun = json.loads(begun)
upload = "/uploads/" + begun["upload"]
first = call("PUT", upload + "/parts/1", b"1" * (8 << 20), **bearer)[0]
print(json.dumps([first, upload, (8 << 20) // begun["min_part_size"] + 1]))
"""
    first, upload, number = running.client(begin)
    assert first == 200
    running.container("api-1").kill()
    end = f"""
second = call("PUT", "{upload}/parts/{number}", b"2" * (1 << 20), **bearer)[0]
parts = json.loads(call("GET", {upload!r}, **bearer)[1])["parts"]
done = post({upload!r} + "/complete", {{"parts": parts}}, **bearer)[0]
content = call("GET", "/resources/models/x.big", **bearer)[1]
print(json.dumps([second, done, content == b"1" * (8 << 20) + b"2" * (1 << 20)]))
"""
    assert running.client(end) == [200, 204, True]
    running.run("start", "api-1")
    running.wait_until_healthy("api-1")


def test_a_user_that_a_further_container_adds_counts_at_once(running: ComposedApi) -> None:
    command = ["azaion-resource-api", "user", "add", "/srv/resource-api", "--device", "device-8"]
    volumes = {str(running.state.root): {"bind": "/srv/resource-api", "mode": "rw"}}
    secret = running.engine.client.containers.run(IMAGE, command, volumes=volumes, network_mode="none", remove=True)
    code = f"""
print(json.dumps(post("/login", {{"email": "device-8", "password": {secret.decode().strip()!r}}})[0]))
"""
    assert running.client(code) == 200


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_cannot_change_the_state(running: ComposedApi, service: str) -> None:
    command = ["azaion-resource-api", "user", "disable", "/srv/resource-api", DEVICE]
    done = running.container(service).exec_run(command)
    assert done.exit_code == 1
    assert b"/srv/resource-api cannot be changed here: Read-only file system" in done.output


def test_the_servers_stop_gracefully(running: ComposedApi) -> None:
    running.run("stop", *SERVERS)
    assert [running.container(name).attrs["State"]["ExitCode"] for name in SERVERS] == [0, 0]
