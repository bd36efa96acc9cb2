"""The application follows WSGI: it passes the validator of the standard library and runs under another server."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loader import create_app
from loader.settings import Settings
from tests.support.faulty_api import FaultyApi
from tests.support.flips import flipped
from tests.support.http_calls import CREDENTIALS, call, load, login, parse_reply, post_json, send_and_close, upload
from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.sealed_objects import seal
from tests.support.sites import NO_ENGINE

CONTENT = bytes(range(256)) * 16_384
READY_SECONDS = 20


@dataclass(frozen=True)
class Validated:
    """A loader behind the validator, and its API."""

    url: str
    process: ManagedProcess
    api: FaultyApi


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validated]:
    """The same loader, without a login at first."""
    directory = tmp_path_factory.mktemp("wsgiref")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "error", "-m", "tests.web.validated_server", str(port)]
    with FaultyApi() as api:
        env = clean_env(
            directory,
            RESOURCE_API_URL=api.url,
            MODEL_CACHE_DIR=str(directory / "models"),
            IMAGES_PATH=str(directory / "images.enc"),
            DOCKER_HOST=NO_ENGINE,
        )
        with ManagedProcess("wsgiref", command, directory, env=env, cwd=REPOSITORY) as process:
            process.wait_until(lambda: http_status(url, "/health") == 200, READY_SECONDS, "/health is 200")
            yield Validated(url, process, api)


def test_every_endpoint_passes_the_validator(validated: Validated) -> None:
    url = validated.url
    load(url, "m", "x").problem(401, "NOT_LOGGED_IN")
    assert call(url, "GET", "/health").json() == {"status": "healthy"}
    assert call(url, "HEAD", "/health").body == b""
    assert call(url, "GET", "/status").json()["authenticated"] is False
    assert login(url).json() == {"status": "ok"}
    for file_first in (False, True):
        assert upload(url, "m", "x", CONTENT, file_first=file_first).json() == {"status": "ok"}
        assert load(url, "m", "x").body == CONTENT
    assert upload(url, "m", "empty", b"").status == 200
    assert load(url, "m", "empty").body == b""
    assert call(url, "GET", "/unlock/status").json()["state"] == "idle"
    page = call(url, "GET", "/")
    assert page.status == 200
    assert call(url, "GET", "/", headers={"If-None-Match": page.headers["ETag"]}).status == 304
    assert call(url, "OPTIONS", "/login").status == 200
    assert "AssertionError" not in validated.process.stderr()


def test_every_kind_of_refusal_passes_the_validator(validated: Validated) -> None:
    url = validated.url
    assert login(url).status == 200
    post_json(url, "/unlock", CREDENTIALS).problem(404, "ARCHIVE_NOT_FOUND")
    login(url, {}).problem(422, "VALIDATION_FAILED")
    login(url, {"email": "e" * 70_000, "password": "p"}).problem(413, "PAYLOAD_TOO_LARGE")
    post_json(url, "/login", {}, {"Origin": "null"}).problem(403, "CROSS_ORIGIN")
    call(url, "GET", "/status", headers={"Host": "example.com"}).problem(400, "UNTRUSTED_HOST")
    call(url, "POST", "/upload/x", b"x" * 3_000_000).problem(415, "UNSUPPORTED_MEDIA_TYPE")
    call(url, "GET", "/nothing").problem(404, "NOT_FOUND")
    call(url, "PUT", "/load/x").problem(405, "METHOD_NOT_ALLOWED")
    load(url, "m", "nothing").problem(404, "RESOURCE_NOT_FOUND")
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}"
    parse_reply(send_and_close(url, head)).problem(400, "BODY_TRUNCATED")
    assert "AssertionError" not in validated.process.stderr()


def test_a_load_that_fails_after_its_start_is_cut(validated: Validated) -> None:
    assert login(validated.url).status == 200
    sealed = seal("m", "torn", CONTENT)
    validated.api.objects.update(sealed.as_objects() | {sealed.big_path: flipped(sealed.big, 3_000_000)})
    with pytest.raises(http.client.IncompleteRead) as caught:
        load(validated.url, "m", "torn")
    assert CONTENT.startswith(caught.value.partial)
    assert 0 < len(caught.value.partial) < len(CONTENT)
    audit = [line for line in validated.process.stderr().splitlines() if '"outcome": "cut"' in line]
    assert len(audit) == 1
    assert "RESOURCE_CORRUPT" in audit[0]


@pytest.mark.parametrize(("several", "status"), [(True, 500), (False, 200)])
@pytest.mark.parametrize("path", ["/health", "/status", "/unlock/status"])
def test_a_server_with_several_processes_is_refused(tmp_path: Path, path: str, several: bool, status: int) -> None:
    app = create_app(Settings.from_env({"MODEL_CACHE_DIR": str(tmp_path), "IMAGES_PATH": str(tmp_path / "images.enc")}))
    reply = app.test_client().get(path, environ_overrides={"wsgi.multiprocess": several})
    assert reply.status_code == status
    if several:
        assert reply.get_json()["code"] == "INTERNAL"
        assert reply.get_json()["detail"] == "The server runs the loader in several processes; it must run one."
