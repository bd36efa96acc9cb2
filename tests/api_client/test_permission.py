"""What the API does not permit to an account is told as such; a 403 of anybody else is not."""

from __future__ import annotations

import json

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiUnreachable, Forbidden, LoaderError
from resource_api.accounts import Role
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

PATH = "/resources/x.small"
PROBLEM = {"Content-Type": "application/problem+json"}
FORBIDDEN = json.dumps({"title": "Forbidden", "status": 403, "detail": "No.", "code": "FORBIDDEN"}).encode()


@pytest.mark.parametrize(("role", "may_upload"), [(Role.READER, False), (Role.PUBLISHER, True)])
def test_only_a_publisher_uploads_and_both_read(resource_api: ResourceApiServer, role: Role, may_upload: bool) -> None:
    resource_api.add_user(EMAIL, PASSWORD, role)
    resource_api.add_user("other@example.org", PASSWORD, Role.PUBLISHER)
    client, other = (ApiClient(resource_api.url, ca_bundle=None, timeouts=TIMEOUTS) for _ in range(2))
    other.login("other@example.org", PASSWORD)
    other.put_object("x.small", b"first")
    client.login(EMAIL, PASSWORD)
    if may_upload:
        client.put_object("x.small", b"second")
    else:
        with pytest.raises(Forbidden) as caught:
            client.put_object("x.small", bytes(3_000_000))
        assert "publisher" in caught.value.hint
        assert not caught.value.retryable
    assert client.small_object("x.small") == (b"second" if may_upload else b"first")
    assert client.authenticated


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(403, FORBIDDEN, PROBLEM), Forbidden),
        (Fault(403, FORBIDDEN, {"Content-Type": "application/json; charset=utf-8"}), Forbidden),
        (Fault(403, FORBIDDEN), ApiError),
        (Fault(403, FORBIDDEN, {"Content-Type": "text/html"}), ApiError),
        (Fault(400, FORBIDDEN, PROBLEM), ApiError),
        (Fault(500, FORBIDDEN, PROBLEM), ApiError),
        (Fault(403, b'{"code": "OTHER"}', PROBLEM), ApiError),
        (Fault(403, b'["FORBIDDEN"]', PROBLEM), ApiError),
        (Fault(403, b"{", PROBLEM), ApiError),
        (Fault(403, b"", PROBLEM), ApiError),
        (Fault(403, b"[" * 50_000, PROBLEM), ApiError),
        (Fault(403, FORBIDDEN + b" " * (64 << 10), PROBLEM), ApiError),
        (Fault(403, FORBIDDEN, PROBLEM, cut_after=20), ApiUnreachable),
        (Fault(403, FORBIDDEN, PROBLEM, stall_after=20), ApiUnreachable),
    ],
)
def test_only_a_whole_problem_of_the_api_means_that_it_is_forbidden(
    api: FaultyApi, impatient: ApiClient, method: str, fault: Fault, error: type[LoaderError]
) -> None:
    api.answer(method, PATH, fault)
    with pytest.raises(error) as caught:
        impatient.small_object("x.small") if method == "GET" else impatient.put_object("x.small", b"content")
    assert type(caught.value) is error
    poll(lambda: api.open_connections == 0, 5, "the connection is given up")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_store_knows_nothing_of_accounts(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, method: str
) -> None:
    api.answer(method, PATH, Fault(307, headers={"Location": f"{elsewhere.url}/x"}))
    elsewhere.answer(method, "/x", Fault(403, FORBIDDEN, PROBLEM))
    with pytest.raises(ApiError):
        client.small_object("x.small") if method == "GET" else client.put_object("x.small", b"content")
