"""The reference API of the tests accepts users and a key fragment, and records each request before its response."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.support.resource_api_server import ResourceApiServer

EMAIL = "operator@example.org"
PASSWORD = "planted-password"
FRAGMENT = bytes(range(32))


def token(server: ResourceApiServer) -> str:
    response = requests.post(f"{server.url}/login", json={"email": EMAIL, "password": PASSWORD}, timeout=10)
    response.raise_for_status()
    return str(response.json()["token"])


def test_a_user_can_log_in_and_every_request_is_recorded(resource_api: ResourceApiServer) -> None:
    resource_api.add_user(EMAIL, PASSWORD)
    resource_api.set_fragment(FRAGMENT)
    bearer = {"Authorization": f"Bearer {token(resource_api)}"}
    response = requests.get(f"{resource_api.url}/binary-split/key-fragment", headers=bearer, timeout=10)
    assert response.content == FRAGMENT
    assert [(request.method, request.path) for request in resource_api.requests()] == [
        ("POST", "/login"),
        ("GET", "/binary-split/key-fragment"),
    ]
    (fetch,) = resource_api.requests("GET", "/binary-split/key-fragment")
    assert fetch.headers["AUTHORIZATION"] == bearer["Authorization"]
    resource_api.forget_requests()
    assert resource_api.requests() == []


def test_a_second_server_uses_the_data_of_the_first(resource_api: ResourceApiServer, tmp_path: Path) -> None:
    resource_api.add_user(EMAIL, PASSWORD)
    assert resource_api.stop() == 0
    with ResourceApiServer(tmp_path, data_dir=resource_api.data_dir) as again:
        assert token(again)
