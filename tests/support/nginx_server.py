"""nginx with `deploy/nginx.conf`, of which only names, paths, ports and times are changed."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.procfs import children

CONFIGURATION = REPOSITORY / "deploy" / "nginx.conf"
READY_SECONDS = 30.0
# The loader trusts it without being told.
HOST_NAME = "localhost"


@dataclass(frozen=True)
class NginxServer:
    """A running nginx with all its files below `directory`."""

    process: ManagedProcess
    directory: Path
    port: int

    @property
    def url(self) -> str:
        """Its address for plain HTTP."""
        return f"http://{HOST_NAME}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The master and its workers."""
        return [self.process.pid, *children(self.process.pid)]

    def access_log(self) -> str:
        """Return the content of the access log."""
        return (self.directory / "access.log").read_text()


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """Return `text` with each key of `changes` replaced; `text` must have each key."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new)
    return text


def configuration(text: str, directory: Path, upstream: Path, port: int) -> str:
    """Return `text` with files below `directory`, the loader's socket `upstream`, and `port` on loopback."""
    changes = {
        "user www-data azaion-loader;": "user root;",  # pytest's directories let nobody else in
        "pid /run/nginx.pid;": f"pid {directory}/nginx.pid;",
        "/var/log/nginx/": f"{directory}/",
        "/run/azaion-nginx-body": f"{directory}/body",
        "/run/azaion-nginx-proxy": f"{directory}/proxy",
        "unix:/run/azaion-loader/loader.sock": f"unix:{upstream}",
        "loader.example": HOST_NAME,
    }
    text = adapted(text, changes)
    text, new = re.subn(r"listen \[::\]:(80|443)\b", f"listen [::1]:{port}", text)
    text, old = re.subn(r"listen (80|443)\b", f"listen 127.0.0.1:{port}", text)
    assert new == old == 2 + 2 * ("#tls listen" in text)
    return text if _has_ipv6() else re.sub(r".*listen \[::1\].*\n", "", text)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def require_nginx() -> None:
    """End the test by `missing` if nginx is not installed."""
    if shutil.which("nginx") is None:
        missing("nginx", "the program is not installed")


@contextmanager
def nginx(
    directory: Path, upstream: Path, changes: Mapping[str, str] | None = None, text: str | None = None
) -> Iterator[NginxServer]:
    """Start nginx for the loader at the socket `upstream`, with `text` or `deploy/nginx.conf`, and `changes`."""
    require_nginx()
    directory.mkdir()
    port = free_port()
    file = directory / "nginx.conf"
    original = CONFIGURATION.read_text() if text is None else text
    file.write_text(adapted(configuration(original, directory, upstream, port), changes or {}))
    command = ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "start.log"), "-g", "daemon off;"]
    with ManagedProcess("nginx", command, directory, env=clean_env(directory)) as process:
        server = NginxServer(process, directory, port)
        # Without a loader nginx responds with 502, and with TLS it responds to plain HTTP with 400.
        process.wait_until(lambda: http_status(server.url, "/health") is not None, READY_SECONDS, "nginx answers")
        yield server
