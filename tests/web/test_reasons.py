"""Whatever breaks on the way to the API: every route says where, why and what to do, in the response and in the log."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from loader.app import create_app
from loader.settings import Settings
from tests.api_client.certificates import Authority
from tests.support.breakable_api import Behaviour, BreakableApi, closed, reset, says, silent, with_tls
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import CREDENTIALS, PASSWORD, call, load, login, post_json, upload
from tests.support.processes import poll
from tests.support.sealed_objects import seal as sealed_model
from tests.support.sites import ONE_SECOND, BareSite, bare_site

MIB = 1 << 20
CUT_AT = 5 * MIB
SECONDS = 20
UNVERIFIED = "its certificate could not be verified: "


@dataclass(frozen=True)
class Way:
    """A loader that is logged in and has an archive to unlock, and its API with TLS, for which `known` vouches."""

    site: BareSite
    api: BreakableApi
    known: Authority
    other: Authority


@contextmanager
def open_way(directory: Path) -> Iterator[Way]:
    """Yield a way whose files are below `directory`."""
    for name in ("known", "other"):
        (directory / name).mkdir()
    known, other = Authority(directory / "known"), Authority(directory / "other")
    env = {**ONE_SECOND, "API_PATIENCE": "1", "RESOURCE_API_CA_BUNDLE": str(known.path), "API_VERSION": "1.4"}
    with (
        BreakableApi(known.sign("right").server_context()) as api,
        FakeEngine(directory / "engine.sock", lambda request: request.respond(500, {"message": "no"})) as engine,
        bare_site(directory / "loader", api.url, DOCKER_HOST=engine.host, **env) as running,
    ):
        seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])
        assert login(running.url).status == 200
        yield Way(running, api, known, other)


@pytest.fixture(scope="module")
def shared_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Use `way`."""
    with open_way(tmp_path_factory.mktemp("way")) as opened:
        yield opened


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


def assert_not_ready(site: BareSite, document: dict[str, Any]) -> None:
    """Require that `/ready` gives sentence and hint of `document`, which the last request has returned."""
    ready = json.loads(call(site.url, "GET", "/ready").body)
    assert "API_UNREACHABLE" in ready["reasons"]
    assert document["detail"] in ready["detail"]
    assert document["hint"] in ready["hint"]


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
    assert_not_ready(site, document)
    assert PASSWORD not in site.loader.process.stderr()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_says_what_breaks_the_way_to_the_api(way: Way, route: str, kind: str) -> None:
    behaviour, reason, hint = KINDS[kind]
    way.api.behaviour = behaviour(way)
    sentence = rf"The resource API at localhost port {way.api.port} could not be reached: {reason}\."
    assert_told(way.site, route, sentence, hint)


def test_every_route_says_that_nobody_listens(tmp_path: Path) -> None:
    with open_way(tmp_path) as way:
        way.api.shutdown()
        way.api.server_close()
        for route in ROUTES:
            sentence = rf"The resource API at localhost port {way.api.port} could not be reached: Connection refused\."
            assert_told(way.site, route, sentence, "firewall refuses")


def test_a_login_says_that_the_name_does_not_resolve(tmp_path: Path) -> None:
    with bare_site(tmp_path, "https://api.nowhere.invalid") as running:
        sentence = r"The resource API at api\.nowhere\.invalid port 443 could not be reached: its name could not be .*"
        assert_told(running, "login", sentence, "DNS server")


CUTS = {
    "cut": (Fault(cut_after=CUT_AT), "it ended early"),
    "cut without a length": (Fault(cut_after=CUT_AT, announced=-1), "it ended early"),
    "silent": (Fault(stall_after=CUT_AT), "it was silent for too long"),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_load_that_is_cut_in_the_middle_says_why_in_the_log(way: Way, kind: str) -> None:
    """The response has begun, so that only the log can say it. The download is the same for all who load the model."""
    fault, reason = CUTS[kind]
    sealed = sealed_model("m", "x", bytes(8 * MIB))
    way.api.objects.update(sealed.as_objects())
    way.api.answer("GET", sealed.big_path, replace(fault, body=sealed.big))
    lines, before = len(way.site.loader.log_lines()), len(way.site.audit_lines("load"))
    with pytest.raises(http.client.IncompleteRead):
        load(way.site.url, "m", "x")
    line = way.site.next_audit_line("load", before)
    assert (line["level"], line["outcome"], line["code"]) == ("WARNING", "cut", "API_UNREACHABLE")
    assert line["reason"] == f"The response of the resource API at localhost port {way.api.port} was cut: {reason}."
    new_lines = way.site.loader.log_lines()[lines:]
    assert [each for each in new_lines if line["reason"] in (each.get("reason"), each["message"])] == [line]
    way.site.empty_cache()


@pytest.mark.parametrize(
    ("url", "is_warned_of"),
    [
        ("http://192.0.2.1:8000", True),
        ("HTTP://api.example/base", True),
        ("http://localhost.example", True),
        ("http://[::ffff:192.0.2.1]", True),
        ("http://127.0.0.1:9", False),
        ("http://localhost:9", False),
        ("http://[::1]:9", False),
        ("https://192.0.2.1", False),
    ],
)
def test_an_api_without_tls_beyond_loopback_is_a_warning_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, is_warned_of: bool
) -> None:
    places = {"MODEL_CACHE_DIR": f"{tmp_path}/models", "IMAGES_PATH": f"{tmp_path}/images.enc"}
    create_app(Settings.from_env({**places, "RESOURCE_API_URL": url}))
    found = [record for record in caplog.records if "the network can read password and token" in record.message]
    assert [record.levelname for record in found] == ["WARNING"] * is_warned_of
