"""Logins, their renewal, and the limits of responses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader.api_client.client import ApiClient
from loader.crypto.archive_seals import key_check
from loader.crypto.model_parts import SMALL_MAX_SIZE
from loader.errors import (
    ApiError,
    ApiProtocol,
    ApiUnreachable,
    KeyMismatch,
    LoaderError,
    LoginRejected,
    NotLoggedIn,
    ResourceNotFound,
)
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.http_probe import connect
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

FRAGMENT = bytes(range(32))
FRAGMENT_PATH = "/binary-split/key-fragment"
THREADS = 20


@pytest.fixture
def expiring(tmp_path: Path) -> Iterator[ResourceApiServer]:
    """A reference API whose tokens are valid for a second."""
    with ResourceApiServer(tmp_path, token_seconds=1) as server:
        server.add_user(EMAIL, PASSWORD)
        server.set_fragment(FRAGMENT)
        yield server


def all_at_once(work: Callable[[], object]) -> list[object]:
    """Run `work` in 20 threads that start together; return what each returned or raised."""
    barrier = threading.Barrier(THREADS)

    def run() -> object:
        barrier.wait()
        try:
            return work()
        except LoaderError as exc:
            return exc

    with ThreadPoolExecutor(THREADS) as threads:
        return [future.result() for future in [threads.submit(run) for _ in range(THREADS)]]


@pytest.mark.parametrize("kind", ["application/problem+json", "Application/Problem+JSON; charset=utf-8"])
def test_an_api_without_the_fragment_is_a_mismatch(api: FaultyApi, client: ApiClient, kind: str) -> None:
    api.answer("GET", FRAGMENT_PATH, Fault(404, b"{}", headers={"Content-Type": kind}))
    with pytest.raises(KeyMismatch):
        client.key_fragment(CHECK)
    assert client.authenticated


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "text/html"), (404, "application/json"), (404, ""), (400, "application/problem+json")],
)
def test_another_refusal_says_nothing_of_the_fragment(
    api: FaultyApi, client: ApiClient, status: int, kind: str
) -> None:
    api.answer("GET", FRAGMENT_PATH, Fault(status, b"{}", headers={"Content-Type": kind}))
    with pytest.raises(ApiError):
        client.key_fragment(CHECK)


def test_token_that_expired_is_renewed(expiring: ResourceApiServer) -> None:
    client = ApiClient(expiring.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login(EMAIL, PASSWORD)
    assert client.key_fragment(key_check(FRAGMENT)).content == FRAGMENT
    bearer = expiring.requests("GET", FRAGMENT_PATH)[0].headers["AUTHORIZATION"]

    def has_expired() -> bool:
        connection = connect(expiring.url, 5)
        try:
            connection.request("GET", FRAGMENT_PATH, headers={"Authorization": bearer})
            return connection.getresponse().status == 401
        finally:
            connection.close()

    poll(has_expired, 10, "the token expires")
    expiring.forget_requests()
    assert client.key_fragment(key_check(FRAGMENT)).content == FRAGMENT
    assert [request.method for request in expiring.requests()] == ["GET", "POST", "GET"]


def test_one_of_twenty_threads_renews_the_token(api: FaultyApi, client: ApiClient) -> None:
    api.valid_token = "a token that nobody has"
    assert all_at_once(lambda: client.key_fragment(CHECK).content) == [api.fragment] * THREADS
    assert len(api.requests("POST", "/login")) == 2  # the first one, and one renewal


def test_renewal_that_fails_fails_for_all_that_wait_for_it(api: FaultyApi, client: ApiClient) -> None:
    api.valid_token = "a token that nobody has"
    api.answer("POST", "/login", Fault(500))
    results = all_at_once(lambda: client.key_fragment(CHECK))
    assert {type(result) for result in results} == {ApiError}
    assert client.authenticated
    api.answer("POST", "/login", api.healthy_response(api.requests("POST", "/login")[0]))
    assert client.key_fragment(CHECK).content == api.fragment


def test_password_changed_meanwhile_ends_the_login(expiring: ResourceApiServer) -> None:
    client = ApiClient(expiring.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login(EMAIL, PASSWORD)
    expiring.add_user(EMAIL, "another password")
    with pytest.raises(LoginRejected):
        client.key_fragment(CHECK)
    assert not client.authenticated
    expiring.forget_requests()
    with pytest.raises(NotLoggedIn):
        client.key_fragment(CHECK)
    assert expiring.requests() == []
    client.login(EMAIL, "another password")
    assert client.key_fragment(key_check(FRAGMENT)).content == FRAGMENT


def test_token_refused_as_soon_as_it_is_issued_does_not_loop(api: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", FRAGMENT_PATH, Fault(401))
    with pytest.raises(LoginRejected):
        client.key_fragment(CHECK)
    assert [request.method for request in api.requests()] == ["POST", "GET", "POST", "GET"]


def test_rejected_login_keeps_the_earlier_one(api: FaultyApi, client: ApiClient) -> None:
    api.answer("POST", "/login", Fault(401))
    with pytest.raises(LoginRejected):
        client.login(EMAIL, "wrong")
    assert client.authenticated
    assert client.key_fragment(CHECK).content == api.fragment


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"token": "t"}' + b" " * (64 * 1024 - 14), None),
        (b'{"token": "t"}' + b" " * (64 * 1024 - 13), ApiProtocol),
        (b'{"token": "t"}' + b" " * (1 << 22), ApiProtocol),
        (b'{"token": "\xff"}', ApiProtocol),
        (b"[" * 60_000, ApiProtocol),
        (b"", ApiUnreachable),
        (b'["token"]', ApiProtocol),
    ],
    ids=lambda value: str(value[:16]) if isinstance(value, bytes) else "",
)
def test_login_response_is_limited(api: FaultyApi, body: bytes, error: type[LoaderError] | None) -> None:
    api.answer("POST", "/login", Fault(body=body))
    client = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS)
    if error is None:
        client.login(EMAIL, PASSWORD)
    else:
        with pytest.raises(error):
            client.login(EMAIL, PASSWORD)
    assert client.authenticated is (error is None)


def test_the_api_may_state_a_smallest_serial(api: FaultyApi, client: ApiClient) -> None:
    assert client.key_fragment(CHECK).minimum_serial == 0
    largest = (1 << 53) - 1
    for stated, minimum in (("0", 0), ("7", 7), ("007", 7), (str(largest), largest)):
        api.answer("GET", FRAGMENT_PATH, Fault(body=api.fragment, headers={"Azaion-Minimum-Serial": stated}))
        assert client.key_fragment(CHECK).minimum_serial == minimum
    for stated in ("", "-1", "+1", "1.5", "1e3", "0x7", "seven", "1 2", str(largest + 1), "1" * 1000):
        api.answer("GET", FRAGMENT_PATH, Fault(body=api.fragment, headers={"azaion-minimum-serial": stated}))
        with pytest.raises(ApiProtocol, match="no serial"):
            client.key_fragment(CHECK)


@pytest.mark.parametrize(("size", "good"), [(0, False), (31, False), (32, True), (4096, True), (4097, False)])
def test_key_fragment_is_limited(api: FaultyApi, client: ApiClient, size: int, good: bool) -> None:
    api.fragment = bytes(size)
    if good:
        assert client.key_fragment(CHECK).content == bytes(size)
    else:
        with pytest.raises(ApiProtocol):
            client.key_fragment(CHECK)


@pytest.mark.parametrize("announced", [None, -1])
def test_small_object_is_limited(api: FaultyApi, client: ApiClient, announced: int | None) -> None:
    api.answer("GET", "/resources/x.small", Fault(body=bytes(SMALL_MAX_SIZE), announced=announced))
    assert len(client.small_object("x.small")) == SMALL_MAX_SIZE
    api.answer("GET", "/resources/x.small", Fault(body=bytes(SMALL_MAX_SIZE + 1), announced=announced))
    with pytest.raises(ApiProtocol):
        client.small_object("x.small")
    poll(lambda: api.open_connections == 0, 5, "the connection is given up")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(404), ResourceNotFound),
        (Fault(403), ApiError),
        (Fault(429), ApiError),
        (Fault(503), ApiError),
        (Fault(204), ApiProtocol),
        (Fault(206, bytes(10)), ApiProtocol),
        (Fault(304), ApiProtocol),
        (Fault(body=bytes(100), cut_after=50), ApiUnreachable),
        (Fault(body=bytes(100), stall_after=50), ApiUnreachable),
        (Fault(silent=True), ApiUnreachable),
        (Fault(body=b"zz", headers={"Transfer-Encoding": "chunked"}), ApiUnreachable),
    ],
    ids=lambda value: "" if isinstance(value, Fault) else value.code,
)
def test_every_fault_of_a_download_is_an_error_of_ours(
    api: FaultyApi, impatient: ApiClient, fault: Fault, error: type[LoaderError]
) -> None:
    api.answer("GET", "/resources/x.small", fault)
    with pytest.raises(error) as caught:
        impatient.small_object("x.small")
    assert type(caught.value) is error
    assert PASSWORD not in str(caught.value)
    poll(lambda: api.open_connections == 0, 5, "the connection is given up")


def test_compressed_response_is_not_requested(api: FaultyApi, client: ApiClient) -> None:
    client.key_fragment(CHECK)
    assert api.requests("GET")[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, ApiUnreachable),
        ({"Content-Type": "Application/XHTML+xml"}, ApiUnreachable),
        ({"Content-Encoding": "gzip"}, ApiUnreachable),
        ({"Content-Encoding": "br"}, ApiUnreachable),
        ({"Content-Encoding": "Deflate"}, ApiUnreachable),
    ],
)
def test_what_somebody_in_between_made_is_no_resource(
    api: FaultyApi, client: ApiClient, headers: dict[str, str], kind: type[Exception]
) -> None:
    api.answer("GET", "/resources/x.small", Fault(body=b"<html>", headers=headers))
    with pytest.raises(kind):
        client.small_object("x.small")
    with pytest.raises(kind):
        client.open_object("x.small")


def test_a_length_of_thousands_of_digits_is_no_fault_of_the_loader(api: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", "/resources/x.big", Fault(body=b"x", announced=-1, headers={"Content-Length": "9" * 5000}))
    assert client.open_object("x.big").total is None
    ranged = {"Content-Range": f"bytes 0-5/{'9' * 5000}"}
    api.answer("GET", "/resources/x.big", Fault(206, body=b"x", headers=ranged))
    with pytest.raises(ApiProtocol):
        client.open_object("x.big", 0, 5)


def test_secrets_are_not_in_the_representation_of_anything(client: ApiClient) -> None:
    held = [repr(value) for value in (*vars(client).values(), *vars(client._logins).values())]
    assert any(EMAIL in text for text in held)
    assert not [text for text in held if PASSWORD in text or "token-1" in text]
