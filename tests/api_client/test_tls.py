"""TLS to the API: which certificates the client trusts, and that no other server gets a byte of the credentials."""

from __future__ import annotations

import os
import socket
import ssl
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from loader.api_client.client import ApiClient
from loader.errors import ApiProtocol, ApiUnreachable
from tests.api_client.conftest import TIMEOUTS
from tests.support.certificates import Authority
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD, call, login
from tests.support.sites import bare_site

StartApi = Callable[..., FaultyApi]
OBJECT = "/resources/m/x.small"


def client_of(api: FaultyApi, ca_bundle: Path | None, host: str = "localhost") -> ApiClient:
    return ApiClient(f"https://{host}:{api.port}", ca_bundle=str(ca_bundle) if ca_bundle else None, timeouts=TIMEOUTS)


def test_certificate_of_the_configured_authority_is_trusted(authority: Authority, start_api: StartApi) -> None:
    api = start_api(tls=authority.sign("right").server_context())
    client = client_of(api, authority.path)
    client.login(EMAIL, PASSWORD)
    assert client.key_fragment(CHECK).content == api.fragment
    assert client.reachable


def test_without_a_bundle_the_authorities_of_the_system_are_trusted(
    authority: Authority, start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = start_api(tls=authority.sign("right").server_context())
    refused(client_of(api, None), api, "certificate could not be verified: unable to get local issuer")
    # How OpenSSL is told where the system keeps its authorities.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    client_of(api, None).login(EMAIL, PASSWORD)


def test_no_bundle_of_the_environment_or_of_a_package_is_trusted(
    authority: Authority, stranger: Authority, start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = start_api(tls=stranger.sign("strange").server_context())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(stranger.path))
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(stranger.path))  # that of the package certifi
    for ca_bundle in (authority.path, None):
        refused(client_of(api, ca_bundle), api, "certificate could not be verified: unable to get local issuer")
    # All three traps are real: a session falls into the first two, a plain adapter into the third.
    url = f"https://localhost:{api.port}/trap"
    requests.get(url, timeout=5)
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=5)
    assert len(api.requests()) == 2


def refused(client: ApiClient, api: FaultyApi, sentence: str) -> None:
    with pytest.raises(ApiUnreachable, match=sentence):
        client.login(EMAIL, PASSWORD)
    assert api.requests() == []
    assert not client.reachable


def test_name_of_another_host_is_refused(authority: Authority, start_api: StartApi) -> None:
    api = start_api(tls=authority.sign("other", host="api.example").server_context())
    refused(client_of(api, authority.path), api, "certificate could not be verified: Hostname mismatch")
    # An address is no name either.
    right = start_api(tls=authority.sign("right").server_context())
    refused(client_of(right, authority.path, "127.0.0.1"), right, "certificate could not be verified: IP address mis")


def test_expired_certificate_is_refused(authority: Authority, start_api: StartApi) -> None:
    api = start_api(tls=authority.expired("expired").server_context())
    refused(client_of(api, authority.path), api, "certificate could not be verified: certificate has expired")


def test_unknown_authority_is_refused(authority: Authority, stranger: Authority, start_api: StartApi) -> None:
    api = start_api(tls=stranger.sign("strange").server_context())
    for ca_bundle in (authority.path, None):
        refused(client_of(api, ca_bundle), api, "certificate could not be verified: unable to get local issuer")


def test_self_signed_certificate_is_refused(authority: Authority, start_api: StartApi) -> None:
    api = start_api(tls=authority.self_signed("self").server_context())
    refused(client_of(api, authority.path), api, "certificate could not be verified: self-signed certificate")


def test_old_versions_of_tls_are_refused(authority: Authority, start_api: StartApi) -> None:
    context = authority.sign("old").server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    api = start_api(tls=context)
    refused(client_of(api, authority.path), api, r"does not speak TLS 1\.2")


def test_response_damaged_after_the_handshake_is_reported_as_cut(authority: Authority) -> None:
    def spoil() -> None:
        connection, _ = listener.accept()
        with connection, context.wrap_socket(connection, server_side=True) as tls:
            # Read the whole request, because closing with unread bytes resets the connection and loses the response.
            request = b""
            while not request.endswith(b"}"):
                request += tls.recv(1 << 16)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            os.write(tls.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody has encrypted

    context = authority.sign("spoilt").server_context()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        spoilt = threads.submit(spoil)
        client = ApiClient(
            f"https://localhost:{listener.getsockname()[1]}", ca_bundle=str(authority.path), timeouts=TIMEOUTS
        )
        with pytest.raises(ApiUnreachable, match="was cut"):
            client.login(EMAIL, PASSWORD)
        spoilt.result()


def test_server_without_tls_is_refused(authority: Authority, api: FaultyApi) -> None:
    refused(client_of(api, authority.path), api, "resource API")


def test_loader_reports_that_the_certificate_is_the_cause(
    authority: Authority, stranger: Authority, start_api: StartApi, tmp_path: Path
) -> None:
    api = start_api(tls=authority.sign("right").server_context())
    url, env = f"https://localhost:{api.port}", "RESOURCE_API_CA_BUNDLE"
    with bare_site(tmp_path / "right", url, **{env: str(authority.path)}) as running:
        assert login(running.url).status == 200
    asked = len(api.requests())
    with bare_site(tmp_path / "wrong", url, **{env: str(stranger.path)}) as running:
        document = login(running.url).problem(503, "API_UNREACHABLE")
        assert "certificate could not be verified" in document["detail"]
        assert "API_UNREACHABLE" in call(running.url, "GET", "/ready").body.decode()
    assert len(api.requests()) == asked


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ftp", "file"])
def test_redirect_out_of_tls_is_out_of_contract(
    authority: Authority, start_api: StartApi, elsewhere: FaultyApi, scheme: str
) -> None:
    """Ciphertext would be authenticated, but anybody on the way would see who asks for what."""
    api = start_api(tls=authority.sign("right").server_context())
    client = client_of(api, authority.path)
    client.login(EMAIL, PASSWORD)
    api.answer("GET", OBJECT, Fault(302, headers={"Location": f"{scheme}://127.0.0.1:{elsewhere.port}/x"}))
    with pytest.raises(ApiProtocol):
        client.small_object("m/x.small")
    assert elsewhere.requests() == []


def test_redirect_into_tls_is_verified_as_well(
    authority: Authority, stranger: Authority, start_api: StartApi, api: FaultyApi
) -> None:
    for number, signer in enumerate((authority, stranger)):
        cdn = start_api(tls=signer.sign(f"cdn-{number}").server_context())
        cdn.objects["/x"] = b"from the CDN"
        client = ApiClient(api.url, ca_bundle=str(authority.path), timeouts=TIMEOUTS)
        client.login(EMAIL, PASSWORD)
        api.answer("GET", OBJECT, Fault(302, headers={"Location": f"https://localhost:{cdn.port}/x"}))
        if signer is authority:
            assert client.small_object("m/x.small") == b"from the CDN"
        else:
            with pytest.raises(ApiUnreachable, match="certificate"):
                client.small_object("m/x.small")
            assert cdn.requests() == []
            assert client.reachable
