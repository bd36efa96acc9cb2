"""The image of deploy/Dockerfile-api, and deploy/compose-api.yaml, started with the engine of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.composed import USER
from tests.deploy.composed_api import (
    API_IMAGE,
    COMPOSE_FILE,
    DEVICE,
    FRAGMENT,
    SERVERS,
    ComposedApi,
    composed_api,
)
from tests.deploy.nginx_checks import API_CONFIGURATION
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.nginx_server import adapted

pytest_plugins = ("tests.deploy.container_fixtures",)

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
def running(
    engine: Engine, api_image: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposedApi]:
    assert api_image["Config"]["User"] == f"{USER}:{USER}"
    place = tmp_path_factory.mktemp("composed-api")
    (place / "nginx-api.conf").write_text(adapted(API_CONFIGURATION.read_text(), {"api.example": "localhost"}))
    copy = place / COMPOSE_FILE.name
    copy.write_text(COMPOSE_FILE.read_text())
    # nginx has no network here, and Debian's uses /var/lib/nginx where the official image uses /var/cache/nginx.
    differences = {"nginx": {"network_mode": "none", "tmpfs": ["/var/lib/nginx:mode=0700,uid=101,size=1m"]}}
    with composed_api(engine, place, [copy], differences, Authority(place), ["localhost"]) as started:
        yield started


def client(running: ComposedApi, code: str) -> Any:
    """Run Python code that sends requests to nginx by `call`, and return the JSON that it prints.

    It runs beside nginx, because the container of nginx has no network of this machine here.
    """
    network = f"container:{running.container('nginx').id}"
    variables = {"AUTHORITY": running.authority.read_text(), "SECRET": running.secret}
    done = running.engine.client.containers.run(
        API_IMAGE, ["python", "-c", CLIENT + code], network_mode=network, remove=True, environment=variables
    )
    return json.loads(done)


def test_a_device_gets_its_fragment_over_tls(running: ComposedApi) -> None:
    code = """
got = call("GET", "/binary-split/key-fragment", **bearer)
print(json.dumps([got[0], got[1].hex()]))
"""
    assert client(running, code) == [200, FRAGMENT.hex()]


def test_an_upload_in_parts_and_a_download_survive_the_end_of_one_server(running: ComposedApi) -> None:
    begin = """
_, begun = post("/uploads", {"name": "models/x.big", "size": 9 << 20}, **bearer)
begun = json.loads(begun)
upload = "/uploads/" + begun["upload"]
first = call("PUT", upload + "/parts/1", b"1" * (8 << 20), **bearer)[0]
print(json.dumps([first, upload, (8 << 20) // begun["min_part_size"] + 1]))
"""
    first, upload, number = client(running, begin)
    assert first == 200
    running.container("api-1").kill()
    end = f"""
second = call("PUT", "{upload}/parts/{number}", b"2" * (1 << 20), **bearer)[0]
parts = json.loads(call("GET", {upload!r}, **bearer)[1])["parts"]
done = post({upload!r} + "/complete", {{"parts": parts}}, **bearer)[0]
content = call("GET", "/resources/models/x.big", **bearer)[1]
print(json.dumps([second, done, content == b"1" * (8 << 20) + b"2" * (1 << 20)]))
"""
    assert client(running, end) == [200, 204, True]
    running.run("start", "api-1")
    running.wait_until_healthy("api-1")


def test_a_user_that_a_further_container_adds_counts_at_once(running: ComposedApi) -> None:
    command = ["azaion-resource-api", "user", "add", "/srv/resource-api", "--device", "device-8"]
    volumes = {str(running.state.root): {"bind": "/srv/resource-api", "mode": "rw"}}
    secret = running.engine.client.containers.run(API_IMAGE, command, volumes=volumes, network_mode="none", remove=True)
    code = f"""
print(json.dumps(post("/login", {{"email": "device-8", "password": {secret.decode().strip()!r}}})[0]))
"""
    assert client(running, code) == 200


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_cannot_change_the_state(running: ComposedApi, service: str) -> None:
    command = ["azaion-resource-api", "user", "disable", "/srv/resource-api", DEVICE]
    done = running.container(service).exec_run(command)
    assert done.exit_code == 1
    assert b"/srv/resource-api cannot be changed here: Read-only file system" in done.output


def test_the_servers_stop_gracefully(running: ComposedApi) -> None:
    running.run("stop", *SERVERS)
    assert [running.container(name).attrs["State"]["ExitCode"] for name in SERVERS] == [0, 0]
