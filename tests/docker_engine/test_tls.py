"""TLS to the engine: whom the loader trusts, what it says when TLS fails, and that the environment does not matter."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from loader.api_client.client import ApiClient
from loader.docker_engine import DockerEngine
from loader.docker_engine.reasons import TLS_HINT
from loader.errors import ApiUnreachable, EngineUnavailable
from tests.support.archives import APP
from tests.support.certificates import Authority, Certificate
from tests.support.engines import Engine
from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD, call
from tests.support.images import import_image
from tests.support.sites import bare_site
from tests.support.tcp_front import TcpFront

pytest_plugins = ("tests.support.unlock_fixtures",)

TIMEOUT_SECONDS = 5


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    """The certificate of an engine at `localhost`."""
    return authority.sign("server")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    """The certificate of the loader."""
    return authority.sign("client", host="loader")


UseTls = Callable[..., None]


@pytest.fixture
def use_tls(
    authority: Authority, client: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Set the variables of Docker for TLS to a port of `host`."""

    def use(port: int, ca: Path | None = None, own: Certificate = client, host: str = "localhost") -> None:
        for name, source in (("ca", ca or authority.path), ("cert", own.certificate), ("key", own.key)):
            (tmp_path / f"{name}.pem").write_bytes(source.read_bytes())
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{host}:{port}")

    return use


@pytest.fixture
def tls_engine(docker: Engine, authority: Authority, server: Certificate) -> Iterator[TcpFront]:
    """The real engine, which wants a certificate of its clients as `dockerd --tlsverify` does."""
    with TcpFront(docker.socket, wanting_certificates(server, authority)) as front:
        yield front


@pytest.fixture
def plain_engine(docker: Engine) -> Iterator[TcpFront]:
    """The real engine on TCP without TLS."""
    with TcpFront(docker.socket) as front:
        yield front


def wanting_certificates(server: Certificate, authority: Authority) -> ssl.SSLContext:
    context = server.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    return context


def assert_unavailable(reason: str, *, hint: str = TLS_HINT) -> None:
    with pytest.raises(
        EngineUnavailable, match=rf"^The Docker engine at tcp://\S+ does not respond: .*{reason}"
    ) as caught:
        DockerEngine(TIMEOUT_SECONDS).find(APP)
    assert str(caught.value).isprintable()
    assert caught.value.hint == hint


def test_an_engine_with_tls_is_used(docker: Engine, tls_engine: TcpFront, use_tls: UseTls) -> None:
    import_image(docker, APP)
    use_tls(tls_engine.port)
    assert DockerEngine(TIMEOUT_SECONDS).find(APP) is not None


def test_an_engine_of_another_authority_is_refused(tls_engine: TcpFront, use_tls: UseTls, stranger: Authority) -> None:
    use_tls(tls_engine.port, ca=stranger.path)
    assert_unavailable("its certificate could not be verified: ")
    assert tls_engine.received == b""


def test_an_engine_of_another_name_is_refused(tls_engine: TcpFront, use_tls: UseTls) -> None:
    use_tls(tls_engine.port, host="127.0.0.1")
    assert_unavailable("its certificate could not be verified: IP address mismatch")


def test_an_expired_certificate_is_refused(docker: Engine, authority: Authority, use_tls: UseTls) -> None:
    with TcpFront(docker.socket, authority.expired("expired").server_context()) as front:
        use_tls(front.port)
        assert_unavailable("its certificate could not be verified: certificate has expired")


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def picky_engine(
    request: pytest.FixtureRequest, docker: Engine, authority: Authority, server: Certificate
) -> Iterator[TcpFront]:
    """The real engine, which wants a certificate, with each version of TLS."""
    context = wanting_certificates(server, authority)
    context.maximum_version = request.param
    with TcpFront(docker.socket, context) as front:
        yield front


# With TLS 1.3 the handshake ends for the client before the server has looked at its certificate, so that the alert or
# the end of the connection may come first.
CUT = "TLS failed: eof occurred in violation of protocol|Connection reset by peer|Broken pipe|it closed the connection"


def test_an_engine_that_refuses_the_loaders_certificate_is_told(
    picky_engine: TcpFront, use_tls: UseTls, stranger: Authority
) -> None:
    use_tls(picky_engine.port, own=stranger.sign("unknown"))
    with pytest.raises(EngineUnavailable, match=f"does not respond: (TLS failed: tlsv1 alert unknown ca|{CUT})"):
        DockerEngine(TIMEOUT_SECONDS).find(APP)
    assert picky_engine.received == b""


def test_a_loader_without_a_certificate_is_told(
    picky_engine: TcpFront, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"https://localhost:{picky_engine.port}")
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(authority.path))
    refused = "TLS failed: (tlsv13 alert certificate required|sslv3 alert handshake failure|ssl/tls alert handshake)"
    with pytest.raises(EngineUnavailable, match=f"does not respond: ({refused}|{CUT})"):
        DockerEngine(TIMEOUT_SECONDS).find(APP)
    assert picky_engine.received == b""


def test_plain_http_to_an_engine_with_tls_is_told(tls_engine: TcpFront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://localhost:{tls_engine.port}")
    with pytest.raises(EngineUnavailable, match=r"at tcp://localhost:\d+ does not respond: ") as caught:
        DockerEngine(TIMEOUT_SECONDS).find(APP)
    assert str(caught.value).isprintable()


def test_tls_to_an_engine_without_it_is_told(plain_engine: TcpFront, use_tls: UseTls) -> None:
    use_tls(plain_engine.port)
    assert_unavailable("TLS failed: (wrong version number|record layer failure)")


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_damaged_certificate_is_told(name: str, tls_engine: TcpFront, use_tls: UseTls, tmp_path: Path) -> None:
    use_tls(tls_engine.port)
    (tmp_path / name).write_text("damaged")
    assert_unavailable("TLS failed: ")


# What other programs are told about their authorities, their proxies and their passwords.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("bundle", ["another", "absent", "damaged"])
def test_the_bundles_of_other_programs_do_not_count(
    bundle: str,
    docker: Engine,
    tls_engine: TcpFront,
    use_tls: UseTls,
    stranger: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_image(docker, APP)
    use_tls(tls_engine.port)
    (tmp_path / "damaged").write_text("damaged")
    path = stranger.path if bundle == "another" else tmp_path / bundle
    for name in BUNDLES:
        monkeypatch.setenv(name, str(path))
    assert DockerEngine(TIMEOUT_SECONDS).find(APP) is not None


def test_no_bundle_of_other_programs_makes_an_engine_trusted(
    tls_engine: TcpFront, use_tls: UseTls, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tls(tls_engine.port, ca=stranger.path)
    for name in BUNDLES[:3]:
        monkeypatch.setenv(name, str(authority.path))
    assert_unavailable("its certificate could not be verified")
    assert tls_engine.received == b""
    # The trap is real: a session takes such a bundle.
    with requests.Session() as session:
        session.verify = str(stranger.path)
        session.cert = (f"{authority.path.parent}/client.pem", f"{authority.path.parent}/client.key")
        assert session.get(f"https://localhost:{tls_engine.port}/_ping", timeout=TIMEOUT_SECONDS).ok


def test_no_proxy_and_no_password_of_the_environment_is_used(
    docker: Engine, plain_engine: TcpFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_image(docker, APP)
    (tmp_path / "netrc").write_text("default login planted password planted-secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{plain_engine.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with TcpFront(docker.socket) as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert DockerEngine(TIMEOUT_SECONDS).find(APP) is not None
        assert proxy.connections == 0
        assert b"GET /v1." in plain_engine.received
        assert b"Authorization" not in plain_engine.received
        # Both traps are real.
        requests.get(f"http://127.0.0.1:{plain_engine.port}/_ping", timeout=TIMEOUT_SECONDS)
        assert b"Authorization" in proxy.received


def test_the_variables_of_docker_do_not_change_the_api_client(
    authority: Authority, stranger: Authority, use_tls: UseTls
) -> None:
    with FaultyApi(tls=authority.sign("api").server_context()) as api:
        use_tls(api.port, ca=stranger.path)
        url = f"https://localhost:{api.port}"
        ApiClient(url, ca_bundle=str(authority.path), timeouts=(5, 5)).login(EMAIL, PASSWORD)
        assert len(api.requests()) == 1
    with FaultyApi(tls=stranger.sign("strange").server_context()) as api:
        use_tls(api.port, ca=stranger.path)
        with pytest.raises(ApiUnreachable, match="certificate could not be verified"):
            ApiClient(f"https://localhost:{api.port}", ca_bundle=None, timeouts=(5, 5)).login(EMAIL, PASSWORD)
        assert api.requests() == []


def test_tls_that_is_not_verified_is_a_warning_in_the_log(
    tls_engine: TcpFront, use_tls: UseTls, tmp_path: Path
) -> None:
    use_tls(tls_engine.port)
    docker = {"DOCKER_HOST": f"tcp://localhost:{tls_engine.port}", "DOCKER_CERT_PATH": str(tmp_path)}
    with bare_site(tmp_path / "site", **docker) as site:
        assert json.loads(call(site.url, "GET", "/ready").body)["reasons"] == ["NOT_LOGGED_IN"]
        assert tls_engine.connections > 0
        warned = [line for line in site.loader.log_lines() if line["logger"] == "py.warnings"]
    assert "Unverified HTTPS request is being made to host 'localhost'" in warned[0]["message"]
