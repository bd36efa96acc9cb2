"""The two servers of the flow: the resource API, which is remote in real life, and the loader on its device."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from .commands import Command, python, run
from .screen import Screen
from .services import Service, start

LOOPBACK = "127.0.0.1"
LOADER_PORT = 8080
RESOURCE_API_PORT = 9000
START_SECONDS = 30
PROBE_SECONDS = 2


@dataclass(frozen=True)
class Server:
    """A running server and its base URL."""

    service: Service
    url: str


def start_resource_api(
    screen: Screen, cleanup: ExitStack, directory: Path, account: tuple[str, str], fragment: Path | None
) -> Server:
    """Start the resource API with one account, a publisher, and, if a file has one, the key fragment."""
    data = str(directory / "api")
    email, password = account
    preparations = [
        python("-m", "resource_api", "init", data),
        python("-m", "resource_api", "user", "add", data, email, "--role", "publisher", line_in=password),
    ]
    if fragment is not None:
        preparations.append(python("-m", "resource_api", "key", "set", data, str(fragment)))
    for command in preparations:
        screen.command(str(command))
        screen.output(run(command, directory))
    port = free_port(RESOURCE_API_PORT)
    serve = python("-m", "resource_api", "serve", data, "--bind", f"{LOOPBACK}:{port}")
    return _serving(screen, cleanup, directory, "resource-api", serve, port)


def start_loader(screen: Screen, cleanup: ExitStack, directory: Path, **settings: str) -> Server:
    """Start the loader under gunicorn with `settings`, on a free port."""
    port = free_port(LOADER_PORT)
    gunicorn = ("-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
    serve = python(*gunicorn, LOADER_BIND=f"{LOOPBACK}:{port}", **settings)
    return _serving(screen, cleanup, directory, "loader", serve, port)


def free_port(preferred: int) -> int:
    """Return the port `preferred`, or any free port of the loopback address if it is in use."""
    with closing(socket.socket()) as probe:
        # Reuse the address as servers do, because a lingering connection of an earlier server does not block it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, preferred))
        except OSError:
            probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _serving(screen: Screen, cleanup: ExitStack, directory: Path, name: str, command: Command, port: int) -> Server:
    screen.command(f"{command} &")
    service = start(cleanup, name, command, directory)
    service.wait_until(lambda: _answers(port), START_SECONDS)
    url = f"http://{LOOPBACK}:{port}"
    screen.good(f"it serves at {url}; its log is {service.log}")
    return Server(service, url)


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS)) as connection:
        try:
            connection.request("GET", "/health")
            # The resource API responds with 404, because it has no such path.
            return connection.getresponse().status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        except (OSError, http.client.HTTPException):
            return False
