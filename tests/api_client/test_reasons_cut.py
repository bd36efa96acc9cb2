"""Responses that are cut, and stores that the API redirects to: the error names the server, and nothing of its URL."""

from __future__ import annotations

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from loader.api_client.client import ApiClient
from loader.api_client.transport import Transport
from loader.errors import ApiUnreachable
from tests.api_client.reasons import TIMEOUTS, Start
from tests.support.breakable_api import BreakableApi, reset
from tests.support.certificates import Authority
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD

OBJECT = "/resources/m/x.small"
SIGNED = "/planted-path?X-Signature=planted-signature"


@pytest.fixture
def client(api: FaultyApi) -> ApiClient:
    """A client that is logged in at `api`, with `TIMEOUTS`."""
    made = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS)
    made.login(EMAIL, PASSWORD)
    return made


def failure_of_load(client: ApiClient) -> ApiUnreachable:
    """Return the error of a load, which must not hold anything of a signed URL."""
    with pytest.raises(ApiUnreachable) as caught:
        client.small_object("m/x.small")
    assert "planted" not in f"{caught.value} {caught.value.hint}"
    return caught.value


CUTS = {
    "cut": (Fault(body=bytes(100), cut_after=3), "it ended early", "cuts connections"),
    "cut within a chunk": (
        Fault(body=b"5\r\nabc", headers={"Transfer-Encoding": "chunked"}),
        "it ended early",
        "cuts connections",
    ),
    "no chunk": (
        Fault(body=b"zz\r\nabc", headers={"Transfer-Encoding": "chunked"}),
        "it ended early",
        "cuts connections",
    ),
    "silence": (Fault(body=bytes(100), stall_after=3), "it was silent for too long", "API_READ_TIMEOUT"),
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("is_store", [False, True], ids=["api", "store"])
def test_a_body_that_is_cut_names_its_server(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, kind: str, is_store: bool
) -> None:
    fault, reason, hint = CUTS[kind]
    if is_store:
        api.answer("GET", OBJECT, Fault(302, headers={"Location": elsewhere.url + SIGNED}))
        elsewhere.answer("GET", "/planted-path", fault)
        who = f"store at 127.0.0.1 port {elsewhere.port} that the resource API redirects to"
    else:
        api.answer("GET", OBJECT, fault)
        who = f"resource API at 127.0.0.1 port {api.port}"
    error = failure_of_load(client)
    assert str(error) == f"The response of the {who} was cut: {reason}."
    assert re.search(hint, error.hint)


def test_a_body_that_ends_in_a_reset_says_so(start: Start) -> None:
    begun = threading.Event()

    def begin_and_reset(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        begun.wait(10)
        reset(connection)

    port = start(begin_and_reset)
    with Transport(f"http://localhost:{port}", ca_bundle=None, timeouts=TIMEOUTS).send("GET", "/x") as response:
        assert response.read(3) == b"abc"
        begun.set()
        with pytest.raises(ApiUnreachable, match=f"localhost port {port} was cut: Connection reset by peer"):
            response.read(1)


def test_a_key_fragment_that_is_cut_names_its_server(api: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", "/binary-split/key-fragment", Fault(body=bytes(32), cut_after=5))
    with pytest.raises(ApiUnreachable, match=f"127.0.0.1 port {api.port} was cut: it ended early") as caught:
        client.key_fragment(CHECK)
    assert "cuts connections" in caught.value.hint


STORES = {
    "a name that does not resolve": ("https://cdn.nowhere.invalid", "cdn.nowhere.invalid port 443", "DNS server"),
    "a name that cannot be one": ("http://cdn..example:81", "cdn..example port 81", "Correct the name"),
    "a closed port": ("http://127.0.0.1:9", "127.0.0.1 port 9", "firewall refuses"),
    "credentials": ("http://planted-user:planted-password@127.0.0.1:9", "127.0.0.1 port 9", "firewall refuses"),
    "an address of IPv6": ("http://[::1]:9", "[::1] port 9", "firewall"),
    "a zone of IPv6": ("http://[fe80::1%25lo]:9", "[fe80::1%lo] port 9", "."),
    "a name in other letters": ("HTTP://CDN.Nowhere.Invalid", "cdn.nowhere.invalid port 80", "DNS server"),
    "a name beyond any length": (f"http://{'a.' * 500}invalid", f"{'a.' * 127}a port 80", "name in"),
}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_store_that_is_not_reached_is_told_from_the_api(
    api: FaultyApi, client: ApiClient, method: str, kind: str
) -> None:
    base, place, hint = STORES[kind]
    api.answer(method, OBJECT, Fault(307, headers={"Location": base + SIGNED}))
    if method == "GET":
        error = failure_of_load(client)
    else:
        with pytest.raises(ApiUnreachable) as caught:
            client.put_object("m/x.small", b"content")
        error = caught.value
    assert str(error).startswith(f"The store at {place} that the resource API redirects to could not be reached: ")
    assert "planted" not in f"{error} {error.hint}"
    assert hint in error.hint
    assert "RESOURCE_API_URL" not in error.hint
    assert client.reachable


def test_a_store_with_another_certificate_is_told_from_the_api(
    api: FaultyApi, client: ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with BreakableApi(stranger.sign("strange").server_context()) as store:
        api.answer("GET", OBJECT, Fault(302, headers={"Location": store.url + SIGNED}))
        error = failure_of_load(client)
        assert re.match(f"The store at localhost port {store.port} .*: its certificate could not be", str(error))
        assert "RESOURCE_API_CA_BUNDLE" in error.hint


def test_threads_that_share_a_failed_renewal_share_its_hint(api: FaultyApi, client: ApiClient) -> None:
    api.valid_token = "another one"
    api.answer("POST", "/login", Fault(silent=True))
    with ThreadPoolExecutor(4) as threads:
        errors = list(threads.map(lambda _: failure_of_load(client), range(4)))
    assert {(str(error), "API_READ_TIMEOUT" in error.hint) for error in errors} == {
        (f"The resource API at 127.0.0.1 port {api.port} could not be reached: it was silent for too long.", True)
    }
    assert len(api.requests("POST", "/login")) < 1 + len(errors)
