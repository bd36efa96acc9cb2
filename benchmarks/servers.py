"""Servers on loopback, each with its files below a directory of the benchmark, each stopped by its own pid.

The loader, the Resource API and the Docker engine are started as the tests start them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from benchmarks.measure import Missing
from benchmarks.peers import REPOSITORY, require_program
from resource_api.accounts import Role
from resource_api.device_secrets import new_secret
from tests.support.engines import Engine, docker_engine
from tests.support.http_probe import http_status
from tests.support.loader_server import LoaderServer
from tests.support.missing import MARK
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.resource_api_server import ResourceApiServer

EMAIL = "bench@example.com"
# A device logs in with a secret: the hash of a password would take a core of the device that is measured.
SECRET = new_secret()
READY_SECONDS = 30.0
CALL_SECONDS = 60.0

NGINX_CONFIGURATION = """\
daemon off;
user root;
worker_processes auto;
pid {root}/nginx.pid;
events {{}}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/unused;
    fastcgi_temp_path {root}/unused;
    uwsgi_temp_path {root}/unused;
    scgi_temp_path {root}/unused;
    server {{
        listen 127.0.0.1:{port};
        root {root}/www;
        location /put/ {{ dav_methods PUT; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx that serves the files of `www` and accepts PUT below /put/. `pid` is that of its master."""

    url: str
    www: Path
    pid: int


@contextmanager
def nginx(directory: Path) -> Iterator[Nginx]:
    """Run nginx with all its files in `directory`. Raises Missing."""
    require_program("nginx")
    www, port = directory / "www", free_port()
    (www / "put").mkdir(parents=True)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX_CONFIGURATION.format(root=directory, port=port))
    command = ["nginx", "-p", str(directory), "-c", str(configuration), "-e", str(directory / "nginx-error.log")]
    url = f"http://127.0.0.1:{port}"
    with ManagedProcess("nginx", command, directory, env=clean_env(directory)) as process:
        process.wait_until(lambda: http_status(url) is not None, READY_SECONDS, "nginx answers")
        yield Nginx(url, www, process.pid)


class _ServedApi(ResourceApiServer):
    """The API with the worker class of `azaion-resource-api serve`."""

    worker_class = "loader.server.worker.Worker"


@contextmanager
def resource_api(directory: Path, store: Mapping[str, str] | None = None) -> Iterator[ResourceApiServer]:
    """Run the resource API, with the publisher EMAIL, whose secret is SECRET. `store` is what names a store to it."""
    directory.mkdir()
    with _ServedApi(directory, store=store) as api:
        api.add_device(EMAIL, SECRET, Role.PUBLISHER)
        yield api


def api_token(api: ResourceApiServer) -> str:
    """Return a token for requests to `api` without the loader."""
    answer = requests.post(f"{api.url}/login", json={"email": EMAIL, "password": SECRET}, timeout=CALL_SECONDS)
    answer.raise_for_status()
    return str(answer.json()["token"])


@contextmanager
def loader(directory: Path, api: ResourceApiServer, **env: str) -> Iterator[LoaderServer]:
    """Run the loader under gunicorn, logged in at `api`; `env` is further configuration."""
    with loader_of(REPOSITORY, directory, api, env) as server:
        yield server


@contextmanager
def loader_of(
    repository: Path, directory: Path, api: ResourceApiServer, env: Mapping[str, str]
) -> Iterator[LoaderServer]:
    """Run the loader whose code is in `repository`, like `loader`."""
    directory.mkdir()
    paths = {"IMAGES_PATH": str(directory / "images.enc"), "MODEL_CACHE_DIR": str(directory / "models")}
    configuration = {"RESOURCE_API_URL": api.url, **paths, **env}
    with LoaderServer(directory, configuration, repository=repository) as server:
        login = requests.post(f"{server.url}/login", json={"email": EMAIL, "password": SECRET}, timeout=CALL_SECONDS)
        login.raise_for_status()
        yield server


@contextmanager
def private_dockerd() -> Iterator[Engine]:
    """Run a Docker engine that is empty at first. Raises Missing."""
    with ExitStack() as running:
        try:
            engine = running.enter_context(docker_engine())
        except (pytest.skip.Exception, pytest.fail.Exception) as exc:
            raise Missing(str(exc).removeprefix(MARK)) from exc
        if engine.process is None:
            raise Missing("a private dockerd (it needs root, and cannot run everywhere)")
        yield engine
