"""Loaders on a unix socket, each behind nginx."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.http_probe import socket_path
from tests.support.nginx_server import NginxServer, nginx
from tests.support.range_sites import hasty_device
from tests.support.range_upstream import RangeUpstream
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import HASTE, BareSite, bare_site


@dataclass(frozen=True)
class Fronted(BareSite):
    """A device whose loader is reached through `nginx`."""

    nginx: NginxServer

    @property
    def url(self) -> str:
        """The address of nginx."""
        return self.nginx.url

    @property
    def upstream(self) -> Path:
        """The loader's socket."""
        return Path(socket_path(self.loader.url))


@dataclass(frozen=True)
class FrontedRange(Fronted):
    """A `Fronted` device whose loader is logged in to a fake `api` with large files."""

    api: RangeUpstream


@contextmanager
def fronted(directory: Path, **env: str) -> Iterator[Fronted]:
    """Start a loader without a login, and nginx; there is no API unless `env` names one."""
    directory.mkdir(exist_ok=True)
    bind = f"unix:{directory}/loader.sock"
    with (
        bare_site(directory, LOADER_BIND=bind, **env) as bare,
        nginx(directory / "nginx", directory / "loader.sock") as front,
    ):
        yield Fronted(bare.loader, bare.models, front)


@contextmanager
def fronted_site(directory: Path) -> Iterator[Fronted]:
    """Start a loader that is logged in to a reference API, and nginx."""
    (directory / "api").mkdir(parents=True)
    with ResourceApiServer(directory / "api") as api:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        with fronted(directory, RESOURCE_API_URL=api.url) as running:
            assert login(running.url).status == 200
            yield running


@contextmanager
def fronted_range(directory: Path, **env: str) -> Iterator[FrontedRange]:
    """Start a logged-in loader with one transfer slot and a fake API that works at first, and nginx."""
    (directory / "upstream").mkdir(parents=True)
    bind = {"LOADER_BIND": f"unix:{directory}/loader.sock", "MAX_TRANSFERS": "1", **env}
    with (
        RangeUpstream(directory / "upstream") as api,
        hasty_device(directory, api.url, HASTE, **bind) as bare,
        nginx(directory / "nginx", directory / "loader.sock") as front,
    ):
        assert login(front.url).status == 200
        yield FrontedRange(bare.loader, bare.models, front, api)


@pytest.fixture(scope="session")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A loader without an API and without a login."""
    with fronted(tmp_path_factory.mktemp("lonely") / "site") as running:
        yield running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A loader that is logged in to a reference API."""
    with fronted_site(tmp_path_factory.mktemp("fronted") / "site") as running:
        yield running


def receive_all(connection: socket.socket) -> bytes:
    """Read until the other side closes or resets the connection; nginx resets connections of silent clients."""
    arrived = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            arrived += piece
    return arrived
