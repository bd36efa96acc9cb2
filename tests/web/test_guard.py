"""Which host names the loader serves, and which browser pages can use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.http_calls import call, parse_reply, post_json, send_and_close
from tests.support.sites import BareSite, Site, bare_site

POST_PATHS = ("/login", "/lock", "/load/x", "/upload/x", "/unlock")


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A loader with its own trusted host names."""
    with bare_site(
        tmp_path_factory.mktemp("renamed"), TRUSTED_HOSTS="Loader.example, 192.0.2.7,[2001:db8::7]"
    ) as running:
        yield running


def get(url: str, path: str, *header_lines: str) -> int:
    """Return the status of a GET with exactly these headers; an error must have problem details."""
    lines = [f"GET {path} HTTP/1.1", *header_lines, "Connection: close", "", ""]
    reply = parse_reply(send_and_close(url, "\r\n".join(lines).encode("latin-1")))
    if reply.status != 200:
        reply.problem(400, "UNTRUSTED_HOST")
    return reply.status


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "LocalHost", "127.0.0.1", "127.0.0.1:1", "[::1]:8080"])
def test_trusted_names_are_served_with_any_port(lonely: BareSite, host: str) -> None:
    assert get(lonely.url, "/status", f"Host: {host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "localhost.",
        "127.0.0.1.nip.io",
        "x@localhost",
        "[::2]",
        "",
        "\xe9",
        "a b",
    ],
)
def test_other_names_are_refused_on_every_path_but_those_of_probes(lonely: BareSite, host: str) -> None:
    for path in ("/status", "/unlock/status", "/nothing", "/health/", "/ready/"):
        assert get(lonely.url, path, f"Host: {host}") == 400
    assert get(lonely.url, "/health", f"Host: {host}") == 200


def test_request_without_a_host_is_refused(lonely: BareSite) -> None:
    raw = send_and_close(lonely.url, b"GET /status HTTP/1.0\r\n\r\n")
    parse_reply(raw).problem(400, "UNTRUSTED_HOST")


def test_forwarded_host_does_not_count(lonely: BareSite) -> None:
    assert get(lonely.url, "/status", "Host: localhost", "X-Forwarded-Host: example.com") == 200
    assert get(lonely.url, "/status", "Host: example.com", "X-Forwarded-Host: localhost") == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [("loader.example:443", 200), ("192.0.2.7", 200), ("[2001:DB8::7]", 200), ("localhost", 400), ("127.0.0.1", 400)],
)
def test_trusted_names_come_from_the_settings(renamed: BareSite, host: str, status: int) -> None:
    assert get(renamed.url, "/status", f"Host: {host}") == status


@pytest.mark.parametrize("path", POST_PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "https://example.com"},
        {"Origin": "http://localhost.example.com"},
        {"Origin": "http://[broken"},
        {"Origin": "localhost"},
    ],
    ids=str,
)
def test_pages_of_other_origins_cannot_post(site: Site, path: str, headers: dict[str, str]) -> None:
    site.api.forget_requests()
    post_json(site.url, path, {"email": "a", "password": "b"}, {"Host": "localhost", **headers}).problem(
        403, "CROSS_ORIGIN"
    )
    assert site.api.requests() == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": "https://LOCALHOST:8443"},
    ],
    ids=str,
)
def test_own_pages_and_programs_can_post(lonely: BareSite, headers: dict[str, str]) -> None:
    post_json(lonely.url, "/login", {}, {"Host": "localhost", **headers}).problem(422, "VALIDATION_FAILED")


def test_pages_of_other_origins_can_link_to_the_loader(lonely: BareSite) -> None:
    assert call(lonely.url, "GET", "/status", headers={"Sec-Fetch-Site": "cross-site"}).status == 200
