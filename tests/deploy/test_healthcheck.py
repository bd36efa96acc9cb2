"""The container's health check, as the container runs it."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.loader_server import REPOSITORY

CHECK = REPOSITORY / "deploy" / "healthcheck.py"
CHECK_SECONDS = 10


def check(bind: str) -> int:
    """Run the health check, which never prints, and return its exit code."""
    command = [sys.executable, str(CHECK)]
    done = subprocess.run(command, env={"LOADER_BIND": bind}, capture_output=True, timeout=CHECK_SECONDS, check=False)
    assert done.stdout + done.stderr == b""
    return done.returncode


def test_a_loader_is_healthy_wherever_it_listens(start_loader: StartLoader, tmp_path: Path) -> None:
    running = start_loader()
    port = running.url.rpartition(":")[2]
    assert check(f"127.0.0.1:{port}") == check(f"0.0.0.0:{port}") == 0
    running.stop()
    path = f"unix:{tmp_path}/loader.sock"
    start_loader(LOADER_BIND=path)
    assert check(path) == 0


@pytest.mark.parametrize("bind", ["127.0.0.1:9", "0.0.0.0:9", "[::]:9", "[::1]:9", "unix:/nonexistent/loader.sock"])
def test_an_unreachable_loader_is_not_healthy(bind: str) -> None:
    assert check(bind) == 1


@pytest.mark.parametrize("answer", [b"", b"\r\n\r\n", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"\x00" * 100])
def test_a_server_with_another_response_is_not_healthy(answer: bytes) -> None:
    """The server is a fake, because no loader sends such responses."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert check(f"127.0.0.1:{server.getsockname()[1]}") == 1
        thread.join()


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_the_documented_check_ignores_the_proxy(start_loader: StartLoader, proxy: str) -> None:
    operations = (REPOSITORY / "docs" / "operations.md").read_text()
    found = re.search(r"`HEALTHCHECK CMD (.*)`", operations)
    assert found is not None
    running = start_loader()
    program = found[1].replace("8080", running.url.rpartition(":")[2])
    command = [sys.executable, *shlex.split(program)[1:]]
    env = {proxy: "http://127.0.0.1:9"}
    assert subprocess.run(command, env=env, capture_output=True, timeout=CHECK_SECONDS, check=False).returncode == 0
    running.stop()
    assert subprocess.run(command, env=env, capture_output=True, timeout=CHECK_SECONDS, check=False).returncode == 1
