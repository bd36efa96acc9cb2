"""Servers on the way that respond in the place of the API or change what it sends: fakes say what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiProtocol, ApiUnreachable
from tests.api_client.conftest import TIMEOUTS
from tests.support.breakable_api import BreakableApi, says
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.portals import EMPTY_PORTAL, PAGE, PORTALS, REDIRECTING_PORTALS, WORDS, response

SMALL = "/resources/m/x.small"
KEY = "/binary-split/key-fragment"
SIGNED = "/bucket/x?X-Signature=planted"

CALLS: dict[str, Callable[[ApiClient], object]] = {
    "login": lambda client: client.login(EMAIL, PASSWORD),
    "key fragment": lambda client: client.key_fragment(CHECK),
    "small part": lambda client: client.small_object("m/x.small"),
    "big part": lambda client: client.open_object("m/x.big", 100),
    "upload": lambda client: client.put_object("m/x.small", b"content"),
}


@pytest.fixture
def api() -> Iterator[BreakableApi]:
    with BreakableApi() as running:
        yield running


@pytest.fixture
def client(api: BreakableApi) -> ApiClient:
    """A client that is logged in."""
    made = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS)
    made.login(EMAIL, PASSWORD)
    return made


def assert_portal(api: BreakableApi, client: ApiClient, name: str, message: bytes) -> None:
    """Require that the error blames neither the API nor the password nor the resource, and that the login is kept."""
    api.behaviour = says(message)
    place = rf"Something between here and the resource API at 127.0.0.1 port {api.port} responded in its place"
    with pytest.raises(ApiUnreachable, match=place) as caught:
        CALLS[name](client)
    assert caught.value.retryable
    assert "portal" in caught.value.hint
    assert "RESOURCE_API_URL" in caught.value.hint
    api.behaviour = None
    assert client.key_fragment(CHECK).content == api.fragment
    assert len(api.requests("POST", "/login")) == 1


@pytest.mark.parametrize("portal", PORTALS)
@pytest.mark.parametrize("name", CALLS)
def test_a_portal_is_told_as_such(api: BreakableApi, client: ApiClient, name: str, portal: str) -> None:
    assert_portal(api, client, name, PORTALS[portal])


@pytest.mark.parametrize("portal", REDIRECTING_PORTALS)
@pytest.mark.parametrize("name", ["login", "key fragment"])
def test_a_redirect_to_a_portal_is_told_as_such(api: BreakableApi, client: ApiClient, name: str, portal: str) -> None:
    assert_portal(api, client, name, REDIRECTING_PORTALS[portal])


def test_an_empty_page_for_a_login_is_told_as_such(api: BreakableApi, client: ApiClient) -> None:
    assert_portal(api, client, "login", EMPTY_PORTAL)


@pytest.mark.parametrize("status", [301, 302, 308])
def test_a_redirect_of_the_api_itself_is_its_own_fault(api: BreakableApi, client: ApiClient, status: int) -> None:
    """It asks for https, for example."""
    api.answer("POST", "/login", Fault(status, headers={"Location": f"https://127.0.0.1:{api.port}/login"}))
    with pytest.raises(ApiProtocol, match=r"resource API at 127\.0\.0\.1"):
        client.login(EMAIL, PASSWORD)


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain", ""])
def test_a_login_may_have_any_type(api: BreakableApi, client: ApiClient, kind: str) -> None:
    api.answer("POST", "/login", Fault(body=b'\xef\xbb\xbf {"token": "t"}', headers={"Content-Type": kind}))
    client.login(EMAIL, PASSWORD)
    assert client.authenticated


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'"t"', b'{"tok'])
def test_what_claims_to_be_json_is_of_the_api(api: BreakableApi, client: ApiClient, body: bytes) -> None:
    api.answer("POST", "/login", Fault(body=body, headers={"Content-Type": "application/json"}))
    with pytest.raises(ApiProtocol):
        client.login(EMAIL, PASSWORD)


@pytest.mark.parametrize(
    "message",
    [
        response(b"201 Created", b"Content-Type: text/html; charset=utf-8\r\n", b""),
        response(b"201 Created", b"Content-Type: text/html\r\n", b"<p>The object was created.</p>"),
        response(b"200 OK", b"Content-Type: text/html\r\n", b"stored"),
        response(b"200 OK", b"", b""),
        response(b"200 OK", b"Content-Type: application/json\r\n", b'{"status": "it is stored"}'),
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_an_api_may_acknowledge_an_upload_as_it_likes(api: BreakableApi, client: ApiClient, message: bytes) -> None:
    api.behaviour = says(message)
    client.put_object("m/x.small", b"content")


@pytest.mark.parametrize("fragment", [bytes(range(32)), b"0123456789abcdef" * 4 + b"\n", b"\xff\xfe " * 20])
@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream"])
def test_a_key_fragment_may_look_like_a_word(api: BreakableApi, client: ApiClient, fragment: bytes, kind: str) -> None:
    api.answer("GET", KEY, Fault(body=fragment, headers={"Content-Type": kind}))
    assert client.key_fragment(CHECK).content == fragment


def test_bytes_that_were_looked_at_come_once(api: BreakableApi, client: ApiClient) -> None:
    content = bytes(range(256)) * 40
    api.behaviour = says(response(b"200 OK", b"", content))
    assert client.small_object("m/x.small") == content
    stream, buffer, read = client.open_object("m/x.big"), memoryview(bytearray(300)), b""
    while count := stream.readinto(buffer):
        read += bytes(buffer[:count])
    assert read == content


def test_a_page_that_explains_a_range_is_of_no_portal(api: BreakableApi, client: ApiClient) -> None:
    whole = Fault(body=bytes(50))
    api.answer("GET", "/resources/m/x.big", Fault(416, PAGE, {"Content-Type": "text/html"}), whole)
    assert client.open_object("m/x.big", 100).total == 50


@pytest.mark.parametrize("coding", ["gzip", "br", "Deflate", "gzip, identity"])
@pytest.mark.parametrize("name", CALLS)
def test_compression_is_told_and_may_pass(api: BreakableApi, client: ApiClient, name: str, coding: str) -> None:
    api.behaviour = says(response(b"200 OK", b"Content-Encoding: %s\r\n" % coding.encode(), b"\x1f\x8b" + bytes(50)))
    with pytest.raises(ApiUnreachable, match=rf"at 127.0.0.1 port {api.port}, or a server before it, compressed"):
        CALLS[name](client)


@pytest.fixture
def redirecting(api: BreakableApi, elsewhere: FaultyApi) -> FaultyApi:
    """The store that `api` redirects all requests of resources to."""
    for method in ("GET", "PUT"):
        api.answer_all(method, Fault(307, headers={"Location": f"{elsewhere.url}{SIGNED}"}))
    api.answer("GET", KEY, Fault(body=api.fragment))
    return elsewhere


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("name", ["small part", "big part", "upload"])
def test_a_store_that_refuses_costs_no_login(
    api: BreakableApi, client: ApiClient, redirecting: FaultyApi, name: str, status: int
) -> None:
    redirecting.answer_all("GET", Fault(status))
    redirecting.answer_all("PUT", Fault(status))
    with pytest.raises(ApiError, match=rf"store at 127.0.0.1 port {redirecting.port} .* status {status}") as caught:
        CALLS[name](client)
    assert "planted" not in str(caught.value)
    assert len(redirecting.requests()) == 2
    assert len(api.requests("POST", "/login")) == 1
    assert client.authenticated


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("method", "name"), [("GET", "small part"), ("PUT", "upload")])
def test_a_signature_that_has_expired_is_asked_for_again(
    api: BreakableApi, client: ApiClient, redirecting: FaultyApi, method: str, name: str, status: int
) -> None:
    redirecting.answer_all(method, Fault(status))
    redirecting.answer(method, "/bucket/x", Fault(status), Fault(body=b"from the store"))
    assert CALLS[name](client) in (b"from the store", None)
    assert [request.method for request in api.requests()] == ["POST", method, method]


def test_a_token_that_expires_before_a_redirect_is_renewed(api: BreakableApi, client: ApiClient) -> None:
    with FaultyApi() as store:
        store.objects["/bucket/x"] = b"from the store"
        redirect = Fault(302, headers={"Location": f"{store.url}{SIGNED}"})
        api.answer("GET", SMALL, Fault(401), redirect)
        assert client.small_object("m/x.small") == b"from the store"
    assert [request.method for request in api.requests()] == ["POST", "GET", "POST", "GET"]


def test_a_redirect_back_to_the_api_without_the_token_costs_no_login(api: BreakableApi, client: ApiClient) -> None:
    api.valid_token = "token-1"
    api.answer("GET", SMALL, Fault(302, headers={"Location": "/elsewhere"}))
    with pytest.raises(ApiError, match="status 401"):
        client.small_object("m/x.small")
    assert len(api.requests("POST", "/login")) == 1


def test_a_portal_at_a_store_is_told_too(api: BreakableApi, client: ApiClient) -> None:
    with BreakableApi() as portal:
        portal.behaviour = says(response(b"200 OK", b"", WORDS))
        api.answer("GET", SMALL, Fault(302, headers={"Location": f"{portal.url}/login"}))
        with pytest.raises(ApiUnreachable, match=f"Something between here and the store at .* port {portal.port}"):
            client.small_object("m/x.small")
