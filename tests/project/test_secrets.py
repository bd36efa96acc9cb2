"""The loader never writes a secret: these tests make requests succeed and fail in many ways at log level DEBUG.

In addition, every `LoaderServer` of every test searches its files for planted secrets when it stops.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.conftest import StartLoader
from tests.support import planted
from tests.support.flips import flipped
from tests.support.http_calls import call, load, login, post_json, upload
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

EMAIL = "operator@example.org"
PASSWORD = "planted-password-7f3a"
WRONG = "planted-wrong-password-91c2"
FRAGMENT = b"planted-key-fragment-0123456789abcdef"


def test_the_search_finds_a_secret_in_a_file(tmp_path: Path) -> None:
    planted.plant(PASSWORD)
    (tmp_path / "log").write_text(f"login with {PASSWORD}")
    assert any(PASSWORD in leak for leak in planted.leaks(tmp_path))


@pytest.mark.parametrize("encoded", [FRAGMENT, FRAGMENT.hex().encode()])
def test_the_search_finds_encoded_secrets(tmp_path: Path, encoded: bytes) -> None:
    planted.plant(FRAGMENT)
    (tmp_path / "file").write_bytes(b"x" + encoded)
    assert list(planted.leaks(tmp_path))
    (tmp_path / "file").write_bytes(b"x" + encoded[1:])
    assert not list(planted.leaks(tmp_path))


def test_the_loader_writes_no_secret(
    resource_api: ResourceApiServer, start_loader: StartLoader, device_dir: Path, tmp_path: Path
) -> None:
    planted.plant(WRONG)
    resource_api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    resource_api.set_fragment(FRAGMENT)
    (tmp_path / "tmp").mkdir()
    loader = start_loader(RESOURCE_API_URL=resource_api.url, LOG_LEVEL="DEBUG", TMPDIR=str(tmp_path / "tmp"))
    responses = [
        login(loader.url, {"email": EMAIL, "password": WRONG}),
        login(loader.url, {"email": EMAIL, "password": [PASSWORD]}),
        login(loader.url, {"email": EMAIL, "password": PASSWORD}),
        call(loader.url, "GET", f"/nowhere?password={PASSWORD}"),
        upload(loader.url, "day", "model", os.urandom(3 << 20)),
        upload(loader.url, "", "model", b"small", file_first=True),
        load(loader.url, "day", "model"),
        load(loader.url, "day", "absent"),
    ]
    for stored in (resource_api.data_dir / "resources" / "day").iterdir():
        stored.write_bytes(flipped(stored.read_bytes(), 200))
    responses.append(load(loader.url, "day", "model"))
    (device_dir / "images.enc").write_bytes(b"AZIMAGE2 and nothing of use")
    responses.append(post_json(loader.url, "/unlock", {"email": EMAIL, "password": PASSWORD}))
    poll(lambda: call(loader.url, "GET", "/unlock/status").json()["state"] == "error", 10, "the unlock fails")
    responses.append(call(loader.url, "GET", "/unlock/status"))

    assert [response.status for response in responses] == [401, 422, 200, 404, 200, 200, 200, 404, 502, 200, 200]
    tokens = {request.headers.get("AUTHORIZATION", "").removeprefix("Bearer ") for request in resource_api.requests()}
    for secret in {PASSWORD, WRONG, FRAGMENT.decode(), *tokens} - {""}:
        assert not [response for response in responses if secret.encode() in response.body]
    environment = Path(f"/proc/{loader.worker_pid}/environ").read_bytes()
    arguments = Path(f"/proc/{loader.worker_pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in environment + arguments
    assert loader.stop() == 0
