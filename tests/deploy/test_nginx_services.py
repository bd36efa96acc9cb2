"""The block `#services` of deploy/nginx.conf: services load models, by a socket or by TCP, and can do nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.composed import SERVICES_FILE
from tests.deploy.conftest import fronted_site
from tests.deploy.nginx_checks import checked, services_variant
from tests.support.http_calls import call, load, parse_reply, upload
from tests.support.nginx_server import nginx
from tests.support.processes import free_port
from tests.support.sites import BareSite

CONTENT = bytes(range(256)) * 8192
SUBNET = "172.31.255.0/28"
FORBIDDEN = (
    "/unlock",
    "/unlock/status",
    "/metrics",
    "/lock",
    "/login",
    "/cache",
    "/cache/clear",
    "/upload/x",
    "/images/fetch",
    "/",
)


@dataclass(frozen=True)
class Ways:
    """A loader with the model `day/m`, and the two addresses that services have for it."""

    loader: BareSite
    urls: dict[str, str]
    operators: str


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Start the loader, and nginx with the block."""
    directory = tmp_path_factory.mktemp("services")
    port, shared = free_port(), directory / "models.sock"
    changes = {"listen 8081;": f"listen 127.0.0.1:{port};", "/run/azaion-models/models.sock": str(shared)}
    # The containers of the tests have the address of loopback.
    changes[f"deny {SUBNET};"] = "deny 127.0.0.1;"
    with fronted_site(directory / "device") as site:
        assert upload(site.url, "day", "m", CONTENT).status == 200
        with nginx(directory / "services", site.upstream, changes, services_variant()) as server:
            yield Ways(site, {"socket": f"unix:{shared}", "network": f"http://loader-models:{port}"}, server.url)


def address(ways: Ways, way: str) -> tuple[str, dict[str, str]]:
    """Return where to connect, and the Host header that a container sends."""
    url = ways.urls[way]
    return url.replace("loader-models", "127.0.0.1"), {"Host": "localhost" if way == "socket" else url[7:]}


def test_nginx_accepts_the_block(tmp_path: Path) -> None:
    text = services_variant().replace("/run/azaion-models/models.sock", str(tmp_path / "models.sock"))
    done = checked(tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.parametrize("way", ["socket", "network"])
def test_a_service_loads_a_model(ways: Ways, way: str) -> None:
    url, headers = address(ways, way)
    whole = call(url, "GET", "/models/day/m", headers=headers)
    assert (whole.status, whole.body) == (200, CONTENT)
    again = call(url, "GET", "/models/day/m", headers={**headers, "If-None-Match": whole.headers["ETag"]})
    assert again.status == 304
    part = call(url, "GET", "/models/day/m", headers={**headers, "Range": "bytes=1000000-1000999"})
    assert (part.status, part.body) == (206, CONTENT[1_000_000:1_001_000])
    assert call(url, "GET", "/models", headers=headers).json()["models"][0]["filename"] == "m"
    assert call(url, "GET", "/health", headers=headers).status == 200
    assert call(url, "GET", "/ready", headers=headers).status == 503


@pytest.mark.parametrize("way", ["socket", "network"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", FORBIDDEN)
def test_a_service_can_do_nothing_else(ways: Ways, way: str, method: str, path: str) -> None:
    url, headers = address(ways, way)
    call(url, method, path, headers=headers).problem(403, "FORBIDDEN")


@pytest.mark.parametrize(
    "path", ["/models/../lock", "/models/%2e%2e/lock", "//lock", "/load/..%2flock", "/./lock", "/lock/..%2fmodels"]
)
def test_no_other_spelling_reaches_the_rest(ways: Ways, path: str) -> None:
    url, headers = address(ways, "socket")
    assert call(url, "POST", path, headers=headers).status in (400, 403, 404, 405)
    # Nobody has locked the loader.
    assert load(ways.loader.url, "day", "m").status == 200


@pytest.mark.parametrize("path", ["/lock", "/login", "/unlock", "/cache/clear", "/upload/x", "/models/day/m"])
def test_the_network_of_the_services_is_refused_at_the_port_of_the_operators(ways: Ways, path: str) -> None:
    assert call(ways.operators, "POST", path).status == 403


def test_the_refused_network_is_that_of_the_services() -> None:
    assert f"subnet: {SUBNET} " in SERVICES_FILE.read_text()


def test_every_user_of_a_container_may_use_the_socket(ways: Ways) -> None:
    assert Path(ways.urls["socket"].removeprefix("unix:")).stat().st_mode & 0o777 == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(ways.urls["socket"].removeprefix("unix:"))
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert parse_reply(b"".join(iter(lambda: client.recv(1 << 16), b""))).status == 200
