"""deploy/nginx.conf: which requests it passes, with which headers, and its own errors."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Fronted, receive_all
from tests.deploy.nginx_checks import checked, tls_variant
from tests.deploy.raw_upstream import RawUpstream
from tests.support.http_calls import ANSWER_SECONDS, call, login, open_socket, post_json
from tests.support.loader_server import REPOSITORY
from tests.support.nginx_server import (
    CONFIGURATION,
    HOST_NAME,
    NginxServer,
    adapted,
    nginx,
)
from tests.support.processes import poll

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
SPOOFED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "spoofed.example",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "Forwarded": "for=203.0.113.9",
    "SCRIPT_NAME": "/spoofed",
}


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[tuple[RawUpstream, NginxServer]]:
    """A fake server behind nginx, which records what arrives."""
    with RawUpstream(tmp_path / "raw.sock") as upstream, nginx(tmp_path / "nginx", tmp_path / "raw.sock") as front:
        upstream.answers = {b"HTTP/1.1": OK}
        upstream.heads.clear()
        yield upstream, front


def exchange(url: str, request: bytes) -> bytes:
    """Read the whole response. The sending side stays open, because nginx takes a half-closed client for a lost one."""
    with open_socket(url) as connection:
        connection.sendall(request)
        return receive_all(connection)


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    done = checked(tmp_path, CONFIGURATION.read_text())
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_ipv6_is_off_until_it_is_turned_on() -> None:
    text = CONFIGURATION.read_text()
    active = re.compile(r"^ *listen \[::\]", re.MULTILINE)
    assert active.findall(text) == active.findall(tls_variant(text)) == []
    for turned_on in (text.replace("#ipv6 ", ""), tls_variant(text).replace("#ipv6 ", "")):
        assert len(active.findall(turned_on)) == 2


LIMITED = [
    "/login",
    "/lock",
    "/unlock",
    "/unlock/plan",
    "/unlock/back",
    "/unlock/cancel",
    "/cache",
    "/cache/clear",
    "/cache/verify",
    "/images/fetch",
    "/images/fetch/cancel",
    "//lock",
    "/x/../lock",
    "/%6cock",
    "/lock?x",
]


def test_the_block_for_paths_has_every_route_that_changes_the_device() -> None:
    """What services need changes nothing but models. A new route has to be in LIMITED, and so behind the block."""
    paths = json.loads((REPOSITORY / "loader/web/openapi.json").read_text())["paths"]
    changing = {path for path, operations in paths.items() if "post" in operations}
    assert {path for path in changing if not path.startswith(("/load/", "/upload/"))} <= set(LIMITED)


@pytest.mark.parametrize("path", LIMITED)
def test_the_block_for_paths_refuses_other_addresses(lonely: Fronted, tmp_path: Path, path: str) -> None:
    text = CONFIGURATION.read_text().replace("#paths ", "")
    with nginx(tmp_path / "nginx", lonely.upstream, {"allow 127.0.0.1;": "allow 192.0.2.1;"}, text) as front:
        assert call(front.url, "POST", path, b"").status == 403
        assert call(front.url, "GET", "/unlock/status").status == 200
        assert call(front.url, "GET", "/status").status == 200


def test_the_block_for_paths_lets_listed_addresses_through(lonely: Fronted, tmp_path: Path) -> None:
    text = CONFIGURATION.read_text().replace("#paths ", "")
    with nginx(tmp_path / "nginx", lonely.upstream, text=text) as front:
        assert call(front.url, "POST", "/lock", b"").status == 200


def test_nginx_rejects_an_error_in_the_configuration(tmp_path: Path) -> None:
    assert checked(tmp_path, CONFIGURATION.read_text() + "proxy_pass http://nowhere;").returncode == 1


def test_a_change_of_a_missing_setting_is_noticed() -> None:
    with pytest.raises(AssertionError, match="not in the configuration"):
        adapted(CONFIGURATION.read_text(), {"proxy_buffering on;": ""})


@pytest.mark.parametrize("path", ["/status", "/", "/health/x", "/unlock/plan", "/status/../x"])
@pytest.mark.parametrize("host", ["Host: other.example", "Host: 127.0.0.1", "Host: localhost.example.com"])
def test_unknown_hosts_get_no_response(lonely: Fronted, path: str, host: str) -> None:
    assert exchange(lonely.url, f"GET {path} HTTP/1.1\r\n{host}\r\n\r\n".encode()) == b""
    assert exchange(lonely.url, f"GET {path} HTTP/1.0\r\n\r\n".encode()) == b""


@pytest.mark.parametrize("host", ["Host: 127.0.0.1:80", "Host: 192.0.2.7", "Host: balancer.example", "X-None: 1"])
def test_probes_may_send_any_host(lonely: Fronted, host: str) -> None:
    healthy = exchange(lonely.url, f"GET /health HTTP/1.0\r\n{host}\r\n\r\n".encode())
    assert healthy.startswith(b"HTTP/1.1 200 ")
    ready = exchange(lonely.url, f"GET /ready HTTP/1.0\r\n{host}\r\n\r\n".encode())
    assert b"UNTRUSTED_HOST" not in ready
    assert b"X-Request-ID" in ready.partition(b"\r\n\r\n")[0]


def test_only_the_probes_can_be_reached_under_another_name(raw: tuple[RawUpstream, NginxServer]) -> None:
    upstream, front = raw
    for path in ("/health?x=1", "//health", "/status/../health", "/unlock%2f..%2fhealth"):
        exchange(front.url, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert {head.split()[1].partition(b"?")[0] for head in upstream.heads} == {b"/health"}


def test_forwarding_headers_of_a_client_are_replaced(raw: tuple[RawUpstream, NginxServer]) -> None:
    upstream, front = raw
    headers = {**SPOOFED, "X-Harmless": "passes", "X-Request-ID": "id-of-the-test", "Host": "LocalHost:8443"}
    assert call(front.url, "GET", "/status", headers=headers).status == 200
    (head,) = upstream.heads
    request, *lines = head.decode().splitlines()
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert request == "GET /status HTTP/1.1"
    assert fields.pop("x-forwarded-for") in ("127.0.0.1", "::1")
    assert fields.pop("x-forwarded-proto") == "http"
    assert (fields.pop("x-harmless"), fields.pop("x-request-id")) == ("passes", "id-of-the-test")
    assert fields == {"host": "localhost", "accept-encoding": "identity"}


def test_the_loader_is_not_misled_by_forwarded_headers(lonely: Fronted) -> None:
    assert call(lonely.url, "GET", "/status", headers=SPOOFED).status == 200


@pytest.mark.parametrize("origin", [f"http://{HOST_NAME}", f"https://{HOST_NAME}:8443"])
def test_only_pages_of_its_own_name_may_post(lonely: Fronted, origin: str) -> None:
    post_json(lonely.url, "/login", {}, {"Origin": origin}).problem(422, "VALIDATION_FAILED")
    for foreign in ("https://other.example", "null", "http://127.0.0.1"):
        post_json(lonely.url, "/login", {}, {"Origin": foreign}).problem(403, "CROSS_ORIGIN")


def test_a_stopped_loader_gives_a_problem_in_json(tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", tmp_path / "nobody.sock") as front:
        for reply in (call(front.url, "GET", "/status"), login(front.url), login(front.url, ["x" * 60_000])):
            assert reply.problem(502, "LOADER_UNREACHABLE")["retryable"] is True
            assert len(reply.headers["X-Request-ID"]) == 32
        named = call(front.url, "GET", "/status", headers={"X-Request-ID": "id-of-the-test"})
        assert named.headers["X-Request-ID"] == "id-of-the-test"


def test_a_loader_that_disconnects_gives_a_problem_in_json(raw: tuple[RawUpstream, NginxServer]) -> None:
    upstream, front = raw
    upstream.answers = {b"HTTP/1.1": b""}
    call(front.url, "GET", "/status").problem(502, "LOADER_UNREACHABLE")
    assert len(upstream.heads) == 1  # nothing is sent twice


def test_a_loader_that_hangs_gives_a_problem_in_json(tmp_path: Path) -> None:
    impatient = {"proxy_read_timeout 6h;": "proxy_read_timeout 100ms;"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "hangs.sock"))
        listener.listen()
        with nginx(tmp_path / "nginx", tmp_path / "hangs.sock", impatient) as front:
            call(front.url, "GET", "/status").problem(502, "LOADER_UNREACHABLE")


def test_the_log_names_requests_without_their_queries(lonely: Fronted) -> None:
    headers = {"X-Request-ID": "id-in-both-logs", "Authorization": "Bearer planted-in-a-header"}
    call(lonely.url, "GET", '/no"where?token=planted-in-a-query', headers=headers).problem(404, "NOT_FOUND")
    poll(lambda: "id-in-both-logs" in lonely.nginx.access_log(), ANSWER_SECONDS, "the access line")
    poll(lambda: "id-in-both-logs" in lonely.loader.process.stderr(), ANSWER_SECONDS, "the loader's line")
    lines = [json.loads(line) for line in lonely.nginx.access_log().splitlines()]
    (line,) = [line for line in lines if line["request_id"] == "id-in-both-logs"]
    assert (line["method"], line["path"], line["status"]) == ("GET", '/no"where', 404)
    assert "planted-in-a" not in lonely.nginx.access_log()
