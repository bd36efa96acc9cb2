"""GET /health and GET /status."""

from __future__ import annotations

import os
from unittest.mock import ANY

import pytest

from loader.version import VERSION
from tests.support.http_calls import call, parse_reply, send_and_close
from tests.support.sites import BareSite, Site


def test_health_responds_while_api_and_engine_are_down(lonely: BareSite) -> None:
    reply = call(lonely.url, "GET", "/health")
    assert reply.status == 200
    assert reply.json() == {"status": "healthy"}


def test_health_responds_to_head_with_the_headers_of_get(lonely: BareSite) -> None:
    head, get = call(lonely.url, "HEAD", "/health"), call(lonely.url, "GET", "/health")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.body))
    assert head.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "head",
    [
        "GET /health HTTP/1.0",
        "GET /health HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nConnection: close",
        "GET /health HTTP/1.1\r\nHost: [2001:db8::7]\r\nConnection: close",
        "GET /health HTTP/1.1\r\nHost: example.com\r\nConnection: close",
        "GET /health HTTP/1.1\r\nHost: no host/@ at all\r\nConnection: close",
        "GET /health HTTP/1.1\r\nConnection: close",
        "GET http://example.com/health HTTP/1.1\r\nHost: example.com\r\nConnection: close",
    ],
)
def test_health_responds_to_a_probe_with_any_host_or_none(lonely: BareSite, head: str) -> None:
    reply = parse_reply(send_and_close(lonely.url, f"{head}\r\n\r\n".encode()))
    assert (reply.status, reply.json()) == (200, {"status": "healthy"})


def test_health_sends_no_request(site: Site) -> None:
    site.api.forget_requests()
    assert call(site.url, "GET", "/health").status == 200
    assert site.api.requests() == []


def cached_bytes(running: BareSite) -> int:
    return sum(path.stat().st_size for path in running.models.glob("*.big"))


def test_status_shows_the_version_and_whether_somebody_has_logged_in(lonely: BareSite, site: Site) -> None:
    host = site.api.url.removeprefix("http://")
    for running, authenticated, api in ((lonely, False, "127.0.0.1:9"), (site, True, host)):
        assert call(running.url, "GET", "/status").json() == {
            "status": "healthy",
            "version": VERSION,
            "device": os.uname().nodename,
            "api": api,
            "authenticated": authenticated,
            "refused": None,
            "last": {"login": ANY, "unlock": None, "fetch": None},
            "modelCacheDir": str(running.models),
            "cache": {"entries": len([*running.models.glob("*.big")]), "bytes": cached_bytes(running), "downloads": []},
        }
