"""Redirects, the environment, TLS: where the token goes, and where it must not."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

import pytest
import requests

from loader import logs
from loader.api_client.client import ApiClient
from loader.api_client.redirects import MAX_REDIRECTS
from loader.errors import ApiProtocol
from loader.uploads.body import FilePieces
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll

OBJECT = "/resources/m/x.small"
SIGNED = "/bucket/x?X-Signature=planted-signature"
REDIRECT_BODY = bytes(1 << 20)


@pytest.mark.parametrize("status", [302, 303, 307])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_download_follows_a_redirect_without_the_token(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, status: int, host: str
) -> None:
    api.answer("GET", OBJECT, Fault(status, headers={"Location": f"http://{host}:{elsewhere.port}{SIGNED}"}))
    elsewhere.objects["/bucket/x"] = b"from the CDN"
    with logs.request_id("id-of-the-test"):
        assert client.small_object("m/x.small") == b"from the CDN"
    (asked,), (seen,) = api.requests("GET"), elsewhere.requests()
    assert asked.headers["authorization"] == "Bearer token-1"
    assert (seen.method, seen.path, seen.query) == ("GET", "/bucket/x", "X-Signature=planted-signature")
    assert "authorization" not in seen.headers
    assert not [value for value in seen.headers.values() if "token-1" in value]
    assert asked.headers["x-request-id"] == seen.headers["x-request-id"] == "id-of-the-test"


def test_redirect_may_be_relative(api: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", OBJECT, Fault(302, headers={"Location": "../../elsewhere"}))
    api.objects["/elsewhere"] = b"here"
    assert client.small_object("m/x.small") == b"here"


def test_credentials_of_the_redirect_itself_go_there_and_no_further(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient
) -> None:
    api.answer("GET", OBJECT, Fault(302, headers={"Location": f"http://cdn:p%40ss@127.0.0.1:{elsewhere.port}/x"}))
    elsewhere.answer("GET", "/x", Fault(302, headers={"Location": f"http://localhost:{elsewhere.port}/y"}))
    elsewhere.objects["/y"] = b"from the CDN"
    assert client.small_object("m/x.small") == b"from the CDN"
    basic = "Basic " + b64encode(b"cdn:p@ss").decode()
    assert [request.headers.get("authorization") for request in elsewhere.requests()] == [basic, None]


def test_upload_that_is_redirected_is_sent_again_as_a_whole(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 12_345
    path = tmp_path / "big"
    path.write_bytes(content)
    api.answer("PUT", "/resources/x.big", Fault(307, headers={"Location": f"{elsewhere.url}{SIGNED}"}))
    with path.open("rb") as file:
        client.put_object("x.big", FilePieces(file, path))
    (seen,) = elsewhere.requests("PUT")
    assert (seen.body_bytes, seen.body_sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert seen.headers["content-length"] == str(len(content))
    assert "authorization" not in seen.headers


@pytest.mark.parametrize("status", [300, 301, 302, 303, 308])
def test_upload_follows_no_other_redirect(api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, status: int) -> None:
    api.answer("PUT", "/resources/x.small", Fault(status, headers={"Location": f"{elsewhere.url}/x"}))
    with pytest.raises(ApiProtocol):
        client.put_object("x.small", b"content")
    assert elsewhere.requests() == []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_password_follows_no_redirect(api: FaultyApi, elsewhere: FaultyApi, status: int) -> None:
    api.answer("POST", "/login", Fault(status, headers={"Location": f"{elsewhere.url}/login"}))
    with pytest.raises(ApiProtocol):
        ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS).login(EMAIL, PASSWORD)
    assert elsewhere.requests() == []


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "http://[broken",
        "http://host:99999/",
        "http://a b/",
        "http://",
        "//",
        "http://.example/",
        "http://*/",
        "http://%e2%82%ac:x@127.0.0.1/",
        "\xff\xfe",
    ],
    ids=ascii,
)
def test_redirect_to_an_address_that_is_not_http_is_refused(
    api: FaultyApi, client: ApiClient, location: str | None
) -> None:
    api.answer("GET", OBJECT, Fault(302, headers={} if location is None else {"Location": location}))
    with pytest.raises(ApiProtocol):
        client.small_object("m/x.small")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_fragment_is_not_fetched_elsewhere(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, status: int
) -> None:
    api.answer("GET", "/binary-split/key-fragment", Fault(status, headers={"Location": f"{elsewhere.url}/x"}))
    with pytest.raises(ApiProtocol):
        client.key_fragment(CHECK)
    assert elsewhere.requests() == []


@pytest.mark.parametrize("count", [MAX_REDIRECTS, MAX_REDIRECTS + 1])
def test_redirects_are_followed_five_times(api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, count: int) -> None:
    api.answer("GET", OBJECT, Fault(302, headers={"Location": f"{elsewhere.url}/1"}))
    for number in range(1, count):
        elsewhere.answer("GET", f"/{number}", Fault(302, headers={"Location": f"/{number + 1}"}))
    elsewhere.objects[f"/{count}"] = bytes(100)
    if count <= MAX_REDIRECTS:
        assert client.small_object("m/x.small") == bytes(100)
    else:
        with pytest.raises(ApiProtocol):
            client.small_object("m/x.small")
    assert not [request for request in elsewhere.requests() if "authorization" in request.headers]


@pytest.mark.parametrize("status", [300, 301, 304, 305, 308])
def test_download_follows_no_other_redirect(
    api: FaultyApi, elsewhere: FaultyApi, client: ApiClient, status: int
) -> None:
    api.answer("GET", OBJECT, Fault(status, headers={"Location": f"{elsewhere.url}/x"}))
    with pytest.raises(ApiProtocol):
        client.small_object("m/x.small")
    assert elsewhere.requests() == []


def test_redirects_in_a_circle_end(api: FaultyApi, elsewhere: FaultyApi, client: ApiClient) -> None:
    api.answer("GET", OBJECT, Fault(302, headers={"Location": f"{elsewhere.url}/x"}))
    elsewhere.answer("GET", "/x", Fault(302, headers={"Location": f"{api.url}{OBJECT}"}))
    with pytest.raises(ApiProtocol):
        client.small_object("m/x.small")
    seen = [*api.requests("GET"), *elsewhere.requests("GET")]
    assert len(seen) == 1 + MAX_REDIRECTS
    assert [request.headers.get("authorization") for request in seen].count(None) == MAX_REDIRECTS


def test_body_of_a_redirect_is_not_read(api: FaultyApi, client: ApiClient) -> None:
    """An endless one would fill the memory."""
    api.objects["/here"] = b"content"
    endless = Fault(302, REDIRECT_BODY, {"Location": "/here"}, announced=1 << 40, stall_after=len(REDIRECT_BODY))
    api.answer("GET", OBJECT, endless)
    assert client.small_object("m/x.small") == b"content"
    poll(lambda: api.open_connections == 0, 5, "the connection is given up")


def test_netrc_and_proxy_of_the_environment_are_ignored(
    api: FaultyApi, elsewhere: FaultyApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password from-netrc\n")
    netrc.chmod(0o600)
    for name in ("no_proxy", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)

    # Show that both traps work, because a plain client falls into them.
    requests.get(f"{api.url}/trap", timeout=5)
    (trapped,) = elsewhere.requests()
    assert trapped.headers["authorization"].startswith("Basic ")

    client = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login(EMAIL, PASSWORD)
    assert client.key_fragment(CHECK).content == api.fragment
    assert [request.headers.get("authorization") for request in api.requests()] == [None, "Bearer token-1"]
    assert len(elsewhere.requests()) == 1
