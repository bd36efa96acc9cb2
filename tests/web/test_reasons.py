"""Whatever breaks on the way to the API: every route says where, why and what to do, in the response and in the log."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loader.api_client.reasons import CertificateUnfit
from tests.support.breakable_api import Behaviour, BreakableApi, closed, reset, says, silent, with_tls
from tests.support.certificates import AUTHORITY, Authority
from tests.support.faulty_api import Fault
from tests.support.http_calls import call, load, login
from tests.support.sealed_objects import seal
from tests.support.sites import bare_site
from tests.web.broken_way import ROUTES, Way, assert_told, open_way

MIB = 1 << 20
CUT_AT = 5 * MIB
UNVERIFIED = "its certificate could not be verified: "


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
        # It has not read the request, so the connection may also be reset: that depends on who is faster.
        "(it closed the connection without a response|Connection reset by peer|Broken pipe)",
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
        f"{UNVERIFIED}certificate is not yet valid( or the system clock is incorrect)?",
        r"clock of this device .* UTC",
    ),
    "expired": (
        lambda way: with_tls(way.known.expired("expired").server_context()),
        f"{UNVERIFIED}certificate has expired( or the system clock is incorrect)?",
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


def test_a_certificate_that_can_never_pass_is_no_reason_to_try_again(tmp_path: Path) -> None:
    """Such an authority is refused under every version of Python."""
    authority = Authority(tmp_path, ["basicConstraints=critical,CA:false", *AUTHORITY[1:]])
    with (
        BreakableApi(authority.sign("api").server_context()) as api,
        bare_site(tmp_path / "loader", api.url, RESOURCE_API_CA_BUNDLE=str(authority.path)) as running,
    ):
        refusal = login(running.url).problem(503, "API_UNREACHABLE")
        ready = json.loads(call(running.url, "GET", "/ready").body)
    assert refusal["detail"].endswith("could not be verified: invalid CA certificate.")
    assert (refusal["retryable"], refusal["hint"]) == (False, CertificateUnfit.hint)
    assert refusal["detail"] in ready["detail"]
    assert CertificateUnfit.hint in ready["hint"]


def test_a_login_says_that_the_name_does_not_resolve(tmp_path: Path) -> None:
    with bare_site(tmp_path, "https://api.nowhere.invalid") as running:
        sentence = r"The resource API at api\.nowhere\.invalid port 443 could not be reached: its name could not be .*"
        assert_told(running, "login", sentence, "DNS server")


def test_an_unlock_says_that_the_key_fragment_was_cut(way: Way) -> None:
    way.api.answer("GET", "/binary-split/key-fragment", Fault(body=bytes(32), cut_after=5))
    sentence = rf"The response of the resource API at localhost port {way.api.port} was cut: it ended early\."
    assert_told(way.site, "unlock", sentence, "cuts connections", is_reached=True)


@pytest.mark.parametrize("route", ["load", "upload"])
def test_a_store_that_is_not_reached_is_named_without_its_signed_url(way: Way, route: str) -> None:
    location = "https://planted-user:planted-word@localhost:9/planted-path?X-Signature=planted-signature"
    way.api.answer_all("GET" if route == "load" else "PUT", Fault(307, headers={"Location": location}))
    sentence = (
        r"The store at localhost port 9 that the resource API redirects to could not be reached: Connection refused\."
    )
    assert_told(way.site, route, sentence, "the redirects of the resource API", is_reached=True)
    assert "planted-" not in way.site.loader.process.stderr()


CUTS = {
    "cut": (Fault(cut_after=CUT_AT), "it ended early"),
    "cut without a length": (Fault(cut_after=CUT_AT, announced=-1), "it ended early"),
    "silent": (Fault(stall_after=CUT_AT), "it was silent for too long"),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_load_that_is_cut_in_the_middle_says_why_in_the_log(way: Way, kind: str) -> None:
    """The response has begun, so that only the log can say it. The download is the same for all who load the model."""
    fault, reason = CUTS[kind]
    sealed = seal("m", "x", bytes(8 * MIB))
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
