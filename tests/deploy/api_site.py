"""Two processes of the resource API behind nginx with deploy/nginx-api.conf, whose objects may be in a store."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.deploy.nginx_checks import API_CONFIGURATION, store_variant
from tests.resource_api.conftest import Api
from tests.support.nginx_server import adapted, require_nginx
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.swift_store import SwiftStore

SECONDS = 30.0
DEVICE, FRAGMENT = "device-7", bytes(range(32))


@dataclass
class Site:
    """Two processes on one data directory, behind nginx with TLS. DEVICE is a publisher and logs in with `secret`."""

    apis: list[Api]
    port: int
    certificate: Path
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


@contextmanager
def api_site(
    directory: Path, changes: Mapping[str, str] | None = None, store: SwiftStore | None = None
) -> Iterator[Site]:
    """Run the site with all its files in `directory`, with `changes` of the configuration of nginx.

    With a `store` the objects are there, and clients reach it through the same nginx under the name 127.0.0.1.
    """
    require_nginx()
    key, chain, port = directory / "key.pem", directory / "chain.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    options = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    text, environment = _with_store(store, port, chain) if store else (API_CONFIGURATION.read_text(), {})
    data = DataDirectory.create(directory / "one" / "data")
    Fragments(data).set(FRAGMENT)
    _, _, secret = Users(data).set_secret(DEVICE, Role.PUBLISHER)
    with ExitStack() as running:
        apis = [running.enter_context(Api(data, **environment)) for _ in range(2)]
        places = {
            "user www-data;": "user root;",
            "pid /run/nginx.pid;": f"pid {directory}/nginx.pid;",
            "/var/log/nginx/": f"{directory}/",
            "/run/azaion-api-": f"{directory}/",
            "/etc/azaion-resource-api/tls/fullchain.pem": str(chain),
            "/etc/azaion-resource-api/tls/key.pem": str(key),
            "unix:/run/azaion-resource-api/1.sock": f"127.0.0.1:{apis[0].port}",
            "unix:/run/azaion-resource-api/2.sock": f"127.0.0.1:{apis[1].port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "api.example": "localhost",
        }
        file = directory / "nginx.conf"
        file.write_text(adapted(text, {**places, **(changes or {})}))
        command = ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "start.log")]
        command += ["-g", "daemon off;"]
        process = running.enter_context(ManagedProcess("nginx", command, directory, env=clean_env(directory)))
        made = Site(apis, port, chain, ssl.create_default_context(cafile=str(chain)), secret)
        process.wait_until(lambda: _answers(made), SECONDS, "nginx responds")
        yield made


def _with_store(store: SwiftStore, port: int, authority: Path) -> tuple[str, dict[str, str]]:
    """Return the configuration of nginx, and the settings of the API that has its objects in `store` behind it."""
    text = adapted(store_variant(), {"store.example": "127.0.0.1", "http://store:8080": store.url})
    own = {"RESOURCE_API_STORE": f"https://127.0.0.1:{port}", "RESOURCE_API_STORE_CA": str(authority)}
    return text, store.settings() | own


def _answers(site: Site) -> bool:
    try:
        return site.call("GET", "/health")[0] == http.HTTPStatus.OK
    except OSError:
        return False
