"""Logins that are forgotten, by a lock or because they were rejected: nothing of them stays, none is tried again."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from loader.api_client import transport
from loader.api_client.client import ApiClient
from loader.api_client.logins import Login, Logins
from loader.errors import ApiUnreachable, Interrupted, LoaderError, LoginRejected, NotLoggedIn
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll

SECONDS = 10
THREADS = 8


def logins(api: FaultyApi) -> int:
    return len(api.requests("POST", "/login"))


def is_forgotten(client: ApiClient, kept: weakref.ref[object]) -> None:
    """Assert that no live object holds the login, its password or its token."""
    gc.collect()
    assert kept() is None
    assert not client.authenticated
    with pytest.raises(NotLoggedIn):
        client.key_fragment(CHECK)
    with pytest.raises(NotLoggedIn):
        client.checkpoint()


def kept_login(client: ApiClient) -> weakref.ref[object]:
    return weakref.ref(vars(client._logins)["_present"])


def test_forget_drops_token_and_credentials(api: FaultyApi, client: ApiClient) -> None:
    kept = kept_login(client)
    assert client.key_fragment(CHECK).content == api.fragment
    asked = len(api.requests())
    client.forget()
    client.forget()
    is_forgotten(client, kept)
    assert len(api.requests()) == asked
    client.login(EMAIL, PASSWORD)
    assert client.key_fragment(CHECK).content == api.fragment


@pytest.mark.parametrize("status", [401, 500])
def test_failed_renewal_keeps_no_frame_with_the_password(api: FaultyApi, client: ApiClient, status: int) -> None:
    kept = kept_login(client)
    api.valid_token = "a token that nobody has"
    api.answer("POST", "/login", Fault(status))
    with suppress(LoaderError):
        client.key_fragment(CHECK)
    if status == 500:
        assert client.authenticated
        client.forget()
    is_forgotten(client, kept)


def test_late_thread_does_not_retry_rejected_credentials(
    api: FaultyApi, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose token has expired as well, but which asks for its renewal only after that has been rejected."""
    api.valid_token = "a token that nobody has"
    late, rejected = threading.Event(), threading.Event()
    renew = Logins.renewed

    def renew_late(self: Logins, expired: Login) -> Login:
        if threading.current_thread().name == "late":
            late.set()
            rejected.wait(SECONDS)
        return renew(self, expired)

    monkeypatch.setattr(Logins, "renewed", renew_late)
    outcomes: list[LoaderError] = []

    def ask() -> None:
        try:
            client.key_fragment(CHECK)
        except LoaderError as exc:
            outcomes.append(exc)

    thread = threading.Thread(target=ask, name="late")
    thread.start()
    assert late.wait(SECONDS)
    api.answer("POST", "/login", Fault(401))
    ask()
    rejected.set()
    thread.join(SECONDS)
    assert [type(outcome) for outcome in outcomes] == [LoginRejected, NotLoggedIn]
    assert logins(api) == 2  # the first one, and one renewal


def test_all_that_wait_for_a_renewal_see_its_rejection(api: FaultyApi, client: ApiClient) -> None:
    api.valid_token = "a token that nobody has"
    api.answer("POST", "/login", Fault(401))

    def ask(_: int) -> type[LoaderError] | None:
        try:
            client.key_fragment(CHECK)
        except LoaderError as exc:
            return type(exc)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = set(pool.map(ask, range(THREADS)))
    assert LoginRejected in outcomes
    assert outcomes <= {LoginRejected, NotLoggedIn}
    assert logins(api) == 2


@pytest.mark.parametrize("renewal", [False, True])
def test_forget_drops_a_running_login_without_waiting_for_it(api: FaultyApi, renewal: bool) -> None:
    """A renewal as well as a login of somebody."""
    client = ApiClient(api.url, ca_bundle=None, timeouts=(SECONDS, SECONDS))
    client.login(EMAIL, PASSWORD)
    before = logins(api)
    if renewal:
        api.valid_token = "a token that nobody has"
    api.answer("POST", "/login", Fault(body=b'{"token": "token-2"}', stall_after=3))

    def log_in() -> None:
        if renewal:
            client.key_fragment(CHECK)
        else:
            client.login(EMAIL, PASSWORD)

    with ThreadPoolExecutor(1) as pool:
        on_its_way = pool.submit(log_in)
        poll(lambda: logins(api) > before, SECONDS, "the login")
        client.forget()
        assert not on_its_way.done()
        api.resume()
        with pytest.raises(NotLoggedIn):
            on_its_way.result(SECONDS)
    assert not client.authenticated


def test_interrupted_login_is_not_kept(api: FaultyApi) -> None:
    client = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS)

    def interrupted() -> None:
        raise Interrupted("The unlock was interrupted.")

    with pytest.raises(Interrupted):
        client.login(EMAIL, PASSWORD, interrupted)
    assert logins(api) == 1
    assert not client.authenticated


def test_lease_ends_with_the_lock_and_not_with_another_login(client: ApiClient) -> None:
    checkpoint = client.checkpoint()
    client.login(EMAIL, PASSWORD)
    checkpoint()
    client.forget()
    with pytest.raises(NotLoggedIn):
        checkpoint()
    client.login(EMAIL, PASSWORD)
    with pytest.raises(NotLoggedIn):
        checkpoint()
    client.checkpoint()()


def test_stream_ends_with_its_login(api: FaultyApi, client: ApiClient) -> None:
    api.objects["/resources/x.big"] = bytes(100)
    stream = client.open_object("x.big")
    buffer = memoryview(bytearray(10))
    assert stream.readinto(buffer) > 0
    client.forget()
    client.login(EMAIL, PASSWORD)
    with pytest.raises(ApiUnreachable, match="login"):
        stream.readinto(buffer)
    stream.close()


def test_cookies_are_neither_kept_nor_sent(api: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", "/resources/x.small", Fault(body=b"x", headers={"Set-Cookie": "session=planted; Path=/"}))
    for _ in range(2):
        client.small_object("x.small")
    assert not [request for request in api.requests() if "cookie" in request.headers]


def test_api_that_failed_counts_as_unreachable_for_a_minute(
    api: FaultyApi, impatient: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert impatient.reachable
    api.answer("GET", "/resources/x.small", Fault(silent=True), Fault(500))
    with pytest.raises(ApiUnreachable):
        impatient.small_object("x.small")
    assert not impatient.reachable
    with suppress(LoaderError):
        impatient.small_object("x.small")
    assert impatient.reachable
    api.answer("GET", "/resources/x.small", Fault(silent=True))
    with pytest.raises(ApiUnreachable):
        impatient.small_object("x.small")
    monkeypatch.setattr(transport, "UNREACHABLE_SECONDS", 0.0)
    assert impatient.reachable
