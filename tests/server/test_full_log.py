"""A log that nobody reads: stderr is a pipe that is full, and every request is still served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from resource_api.data_directory import DataDirectory
from tests.support.http_calls import call, post_json
from tests.support.http_probe import connect, http_status
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env, free_port, poll
from tests.support.sites import NO_ENGINE, NOBODY_LISTENS

SECONDS = 20.0
# Each writes a line of more than 200 bytes; a pipe has 64 KiB, and a thousand lines may wait.
REQUESTS = 1600


class Unread:
    """A server whose stderr nobody reads until the test does."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def request_often(self, path: str, status: int) -> None:
        """Send REQUESTS requests on one connection."""
        with closing(connect(self.url, SECONDS)) as connection:
            for _ in range(REQUESTS):
                connection.request("GET", path)
                with connection.getresponse() as response:
                    response.read()
                    assert response.status == status

    def stop(self) -> str:
        """Let the server end, and return all of its log."""
        self.process.terminate()
        return self.process.communicate(timeout=SECONDS)[1].decode()


@contextmanager
def unread(directory: Path, arguments: list[str], port: int, **env: str) -> Iterator[Unread]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, env=clean_env(directory, **env), cwd=REPOSITORY, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            poll(lambda: http_status(url, "/health") is not None, SECONDS, "it answers")
            yield Unread(process, url)
        finally:
            process.kill()


@contextmanager
def loader(directory: Path, **env: str) -> Iterator[Unread]:
    port = free_port()
    settings = {
        "LOADER_BIND": f"127.0.0.1:{port}",
        "MODEL_CACHE_DIR": str(directory / "models"),
        "IMAGES_PATH": str(directory / "images.enc"),
        "RESOURCE_API_URL": NOBODY_LISTENS,
        "DOCKER_HOST": NO_ENGINE,
    }
    with unread(directory, ["-m", "loader", "serve"], port, **settings, **env) as running:
        yield running


@contextmanager
def resource_api(directory: Path) -> Iterator[Unread]:
    DataDirectory.create(directory / "data")
    port = free_port()
    arguments = ["-m", "resource_api", "serve", str(directory / "data"), "--bind", f"127.0.0.1:{port}"]
    with unread(directory, arguments, port) as running:
        yield running


def test_every_path_of_the_loader_is_served(tmp_path: Path) -> None:
    with loader(tmp_path) as running:
        running.request_often("/status", 200)
        for path, status in {"/health": 200, "/ready": 503, "/status": 200, "/unlock/status": 200, "/": 200}.items():
            assert call(running.url, "GET", path).status == status
        assert call(running.url, "POST", "/lock").status == 200
        assert post_json(running.url, "/login", {"email": "a", "password": "b"}).status == 503
        log = running.stop()
    assert running.process.returncode == 0
    lines: list[Mapping[str, str]] = [json.loads(line) for line in log.splitlines()]
    (notice,) = [line for line in lines if "were dropped" in line["message"]]
    dropped = int(notice["message"].split()[0])
    served = [line for line in lines if line["message"] == "GET /status 200"]
    assert dropped > 0
    assert REQUESTS < len(served) + dropped <= REQUESTS + 10


def test_the_resource_api_goes_on(tmp_path: Path) -> None:
    with resource_api(tmp_path) as running:
        running.request_often("/resources/" + "x" * 200, 401)
        log = running.stop()
    assert running.process.returncode == 0
    assert "log lines were dropped" in log


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_good_probes_write_nothing_and_audit_lines_are_always_written(tmp_path: Path, level: str) -> None:
    with loader(tmp_path, LOG_LEVEL=level) as running:
        for _ in range(300):
            assert http_status(running.url, "/health") == 200
        assert post_json(running.url, "/login", {"email": "a", "password": "b"}).status == 503
        log = running.stop()
    assert "/health" not in log
    assert '"event": "login"' in log


def test_a_reader_that_has_gone_stops_nothing(tmp_path: Path) -> None:
    with loader(tmp_path) as running:
        assert running.process.stderr is not None
        running.process.stderr.close()
        running.request_often("/status", 200)
        running.process.terminate()
        assert running.process.wait(SECONDS) == 0
