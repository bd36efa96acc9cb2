"""Whatever breaks on the way to the API: every route says where, why and what to do, in the response and in the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from loader.crypto.model_parts import ResourceName
from tests.api_client.certificates import Authority
from tests.support.breakable_api import Behaviour, BreakableApi, closed, reset, says, silent, with_tls
from tests.support.fake_engine import FakeEngine
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import CREDENTIALS, PASSWORD, call, load, login, post_json, upload
from tests.support.processes import poll
from tests.support.sites import ONE_SECOND, BareSite, bare_site

SECONDS = 20
SMALL = f"/resources/{ResourceName('m', 'x').small}"
UNVERIFIED = "its certificate could not be verified: "


@dataclass(frozen=True)
class Way:
    """A loader that is logged in, an archive that it can unlock, and the API behind TLS; `known` vouches for the API."""

    site: BareSite
    api: BreakableApi
    known: Authority
    other: Authority


@pytest.fixture(scope="module")
def shared_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Use `way`."""
    directory = tmp_path_factory.mktemp("way")
    known, other = Authority(tmp_path_factory.mktemp("known")), Authority(tmp_path_factory.mktemp("other"))
    env = {**ONE_SECOND, "API_PATIENCE": "1", "RESOURCE_API_CA_BUNDLE": str(known.path), "API_VERSION": "1.4"}
    with (
        BreakableApi(known.sign("right").server_context()) as api,
        FakeEngine(directory / "engine.sock", lambda request: request.respond(500, {"message": "no"})) as engine,
        bare_site(directory / "loader", api.url, DOCKER_HOST=engine.host, **env) as running,
    ):
        seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])
        assert login(running.url).status == 200
        yield Way(running, api, known, other)


@pytest.fixture
def way(shared_way: Way) -> Iterator[Way]:
    """A way that is whole at first."""
    yield shared_way
    shared_way.api.behaviour = None
    shared_way.api.reset()


Kind = tuple[Callable[[Way], Behaviour], str, str]
KINDS: dict[str, Kind] = {
    "silent": (lambda _: silent, "it was silent for too long", "API_READ_TIMEOUT"),
    "reset": (lambda _: reset, "Connection reset by peer", "firewall or a proxy"),
    "closed": (lambda _: closed, "TLS failed: .*eof.*", "firewall or a proxy"),
    "closed after the handshake": (
        lambda way: with_tls(way.known.sign("right").server_context()),
        "it closed the connection without a response",
        "firewall or a proxy",
    ),
    "not TLS": (lambda _: says(b"HTTP/1.1 200 OK\r\n\r\n"), "TLS failed: .*", "scheme in RESOURCE_API_URL"),
    "not HTTP": (
        lambda way: with_tls(way.known.sign("right").server_context(), says(b"SSH-2.0\r\n")),
        "its response is not HTTP",
        "scheme in RESOURCE_API_URL",
    ),
    "not yet valid": (
        lambda way: with_tls(way.known.not_yet_valid("future").server_context()),
        f"{UNVERIFIED}certificate is not yet valid",
        r"clock of this device .* UTC",
    ),
    "expired": (
        lambda way: with_tls(way.known.sign("expired", days=-1).server_context()),
        f"{UNVERIFIED}certificate has expired",
        r"clock of this device .* UTC",
    ),
    "another host": (
        lambda way: with_tls(way.known.sign("host", host="api.example").server_context()),
        f"{UNVERIFIED}Hostname mismatch, .*",
        "a name of the certificate in RESOURCE_API_URL",
    ),
    "unknown authority": (
        lambda way: with_tls(way.other.sign("strange").server_context()),
        f"{UNVERIFIED}unable to get local issuer certificate",
        "RESOURCE_API_CA_BUNDLE",
    ),
}


def unlock(url: str) -> dict[str, Any]:
    """Return what the status says of a failed unlock, in the words of problem details."""
    assert post_json(url, "/unlock", CREDENTIALS).status == 200

    def status() -> dict[str, Any]:
        return dict(call(url, "GET", "/unlock/status").json())

    poll(lambda: status()["state"] == "error", SECONDS, "the unlock fails")
    assert status()["code"] == "API_UNREACHABLE"
    return {"detail": status()["error"], "hint": status()["hint"]}


ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "login": lambda url: login(url).problem(503, "API_UNREACHABLE"),
    "load": lambda url: load(url, "m", "x").problem(503, "API_UNREACHABLE"),
    "upload": lambda url: upload(url, "m", "x", b"content").problem(503, "API_UNREACHABLE"),
    "unlock": unlock,
}


def assert_told(site: BareSite, route: str, sentence: str, hint: str) -> None:
    """Require sentence and hint in the response to `route`, and the sentence in exactly one warning of the log."""
    lines, audited = len(site.loader.log_lines()), len(site.audit_lines(route))
    document = ROUTES[route](site.url)
    assert re.fullmatch(sentence, document["detail"]), document
    assert re.search(hint, document["hint"]), document
    line = site.next_audit_line(route, audited)
    assert (line["level"], line["outcome"], line["code"]) == ("WARNING", "failed", "API_UNREACHABLE")
    assert line["reason"] == document["detail"]
    warnings = [line for line in site.loader.log_lines()[lines:] if line["level"] not in ("DEBUG", "INFO")]
    assert warnings == [line]
    assert PASSWORD not in site.loader.process.stderr()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_says_what_breaks_the_way_to_the_api(way: Way, route: str, kind: str) -> None:
    behaviour, reason, hint = KINDS[kind]
    way.api.behaviour = behaviour(way)
    sentence = rf"The resource API at localhost port {way.api.port} could not be reached: {reason}\."
    assert_told(way.site, route, sentence, hint)


def test_every_route_says_that_nobody_listens(way: Way) -> None:
    port = way.api.port
    way.api.behaviour = closed
    way.api.socket.close()
    for route in ROUTES:
        sentence = rf"The resource API at localhost port {port} could not be reached: Connection refused\."
        assert_told(way.site, route, sentence, "firewall refuses")
