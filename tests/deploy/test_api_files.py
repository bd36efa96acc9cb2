"""deploy/nginx-api.conf in front of two processes of the resource API, and deploy/azaion-resource-api.service."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.resource_api.conftest import Api
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.nginx_server import adapted, require_nginx
from tests.support.processes import ManagedProcess, clean_env, free_port, poll

DEPLOY = REPOSITORY / "deploy"
UNIT = DEPLOY / "azaion-resource-api.service"
PROGRAM = "/srv/azaion-resource-api/.venv/bin/azaion-resource-api"
SECONDS = 30.0
REQUESTS = 60
DEVICE, FRAGMENT = "device-7", bytes(range(32))


@dataclass
class Site:
    """Two processes on one data directory, behind nginx with TLS."""

    apis: list[Api]
    port: int
    context: ssl.SSLContext
    secret: str

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send a request on a connection of its own, and return status and body."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=SECONDS, context=self.context)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def login(self, password: str) -> tuple[int, bytes]:
        """POST /login."""
        body = json.dumps({"email": DEVICE, "password": password}).encode()
        return self.call("POST", "/login", body, **{"Content-Type": "application/json"})

    def bearer(self) -> dict[str, str]:
        """Log in, and return the header of further requests."""
        return {"Authorization": f"Bearer {json.loads(self.login(self.secret)[1])['token']}"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    require_nginx()
    key, chain, port = tmp_path / "key.pem", tmp_path / "chain.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    data = DataDirectory.create(tmp_path / "one" / "data")
    Fragments(data).set(FRAGMENT)
    _, _, secret = Users(data).set_secret(DEVICE, Role.PUBLISHER)
    with ExitStack() as running:
        apis = [running.enter_context(Api(data)) for _ in range(2)]
        changes = {
            "user www-data;": "user root;",
            "pid /run/nginx.pid;": f"pid {tmp_path}/nginx.pid;",
            "/var/log/nginx/": f"{tmp_path}/",
            "/run/azaion-api-": f"{tmp_path}/",
            "/etc/azaion-resource-api/tls/fullchain.pem": str(chain),
            "/etc/azaion-resource-api/tls/key.pem": str(key),
            "127.0.0.1:9001": f"127.0.0.1:{apis[0].port}",
            "127.0.0.1:9002": f"127.0.0.1:{apis[1].port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "api.example": "localhost",
        }
        file = tmp_path / "nginx.conf"
        file.write_text(adapted((DEPLOY / "nginx-api.conf").read_text(), changes))
        command = [
            "nginx",
            "-p",
            str(tmp_path),
            "-c",
            str(file),
            "-e",
            str(tmp_path / "start.log"),
            "-g",
            "daemon off;",
        ]
        process = running.enter_context(ManagedProcess("nginx", command, tmp_path, env=clean_env(tmp_path)))
        made = Site(apis, port, ssl.create_default_context(cafile=str(chain)), secret)
        process.wait_until(lambda: _answers(made), SECONDS, "nginx responds")
        yield made


def _answers(site: Site) -> bool:
    try:
        return site.call("GET", "/health")[0] == http.HTTPStatus.OK
    except OSError:
        return False


def test_every_request_succeeds_while_one_of_two_processes_is_killed(site: Site) -> None:
    bearer = site.bearer()

    def read(number: int) -> tuple[int, bytes]:
        if number == REQUESTS // 2:
            os.kill(site.apis[0].worker(), signal.SIGKILL)
            os.kill(site.apis[0].process.pid, signal.SIGKILL)
        return site.call("GET", "/binary-split/key-fragment", None, **bearer)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(REQUESTS))) == {(200, FRAGMENT)}
    assert site.login(site.secret)[0] == 200


def test_uploads_pass_and_the_log_of_the_api_has_the_client(site: Site) -> None:
    bearer, content = site.bearer(), bytes(1 << 20)
    assert site.call("PUT", "/resources/models/x.small", content, **bearer, **{"X-Request-ID": "up"})[0] == 201
    assert site.call("GET", "/resources/models/x.small", None, **bearer) == (200, content)

    def lines() -> list[str]:
        return [line for api in site.apis for line in api.process.stderr().splitlines() if '"request_id": "up"' in line]

    poll(lines, SECONDS, "the audit line")
    assert json.loads(lines()[0])["client"] == "127.0.0.1"


def test_guesses_are_limited_and_counters_stay_inside(site: Site) -> None:
    statuses = [site.login("guess")[0] for _ in range(20)]
    assert set(statuses) == {401, 503}
    assert site.call("GET", "/metrics")[0] == 404


def analyze(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit, with its program replaced by one that exists."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "the program is not installed")
    unit = directory / UNIT.name
    unit.write_text(adapted(UNIT.read_text(), {PROGRAM: str(shutil.which("true"))}))
    return subprocess.run(["systemd-analyze", *command, str(unit)], capture_output=True, text=True, check=False)


def test_systemd_accepts_and_confines_the_api(tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert analyze(tmp_path, "security", "--offline=true", "--threshold=20").returncode == 0
