"""GET /ready, and the requests of load balancers and of Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.faulty_wire import FaultyWire
from tests.support.http_calls import call, load, login, open_socket, parse_reply, send_and_close
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port, poll
from tests.support.sites import BareSite, bare_site

SECONDS = 20
PROBES = {
    "HAProxy's httpchk": "GET {} HTTP/1.0\r\n\r\n",
    "Kubernetes' httpGet": "GET {} HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nUser-Agent: kube-probe/1.31\r\n"
    "Accept: */*\r\nConnection: close\r\n\r\n",
    "Docker's HEALTHCHECK": "GET {} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n"
    "Connection: close\r\n\r\n",
    "HEAD": "HEAD {} HTTP/1.0\r\n\r\n",
}


def reasons(running: BareSite) -> list[str]:
    """Return the reasons in the response of `/ready`, none for a 200, after checks of its form."""
    reply = call(running.url, "GET", "/ready")
    if reply.status == 200:
        assert reply.json() == {"ready": True}
        return []
    assert (reply.status, reply.headers["Content-Type"]) == (503, "application/problem+json")
    document: dict[str, Any] = json.loads(reply.body)
    assert set(document) == {"title", "status", "detail", "code", "retryable", "hint", "reasons"}
    assert (document["status"], document["title"]) == (503, "Service Unavailable")
    assert document["code"] == document["reasons"][0]
    assert document["detail"].endswith(".")
    assert len(document["hint"].split(". ")) >= len(document["reasons"])
    return list(document["reasons"])


@pytest.fixture
def api() -> Iterator[FaultyApi]:
    """An API that is healthy at first."""
    with FaultyApi() as running:
        yield running


@contextmanager
def with_engine(directory: Path, api_url: str, **env: str) -> Iterator[BareSite]:
    """A loader that is logged in and has an engine."""
    directory.mkdir(exist_ok=True)
    with (
        FakeEngine(directory / "engine.sock", lambda request: request.respond(500, {})) as engine,
        bare_site(directory / "loader", api_url, **{"DOCKER_HOST": engine.host, **env}) as running,
    ):
        assert login(running.url).status == 200
        yield running


def test_ready_follows_login_and_api(tmp_path: Path, api: FaultyApi) -> None:
    with with_engine(tmp_path, api.url, API_READ_TIMEOUT="1") as running:
        assert reasons(running) == []
        asked = len(api.requests())
        api.answer("GET", "/resources/m/x.small", Fault(silent=True))
        load(running.url, "m", "x").problem(503, "API_UNREACHABLE")
        assert reasons(running) == ["API_UNREACHABLE"]
        assert call(running.url, "POST", "/lock").status == 200
        assert reasons(running) == ["NOT_LOGGED_IN", "API_UNREACHABLE"]
        assert len(api.requests()) == asked + 1  # it asks the API for nothing itself
        assert login(running.url).status == 200
        assert reasons(running) == []


def test_an_api_that_responds_with_an_error_counts_as_reachable(tmp_path: Path, api: FaultyApi) -> None:
    with with_engine(tmp_path, api.url) as running:
        api.answer("GET", "/resources/m/x.small", Fault(500))
        load(running.url, "m", "x").problem(502, "API_ERROR")
        assert reasons(running) == []


def test_ready_with_a_real_engine_that_goes_away(tmp_path: Path, api: FaultyApi, docker_engine: Engine) -> None:
    with (
        FaultyWire(tmp_path / "wire.sock", docker_engine.socket, "/_ping$") as wire,
        bare_site(tmp_path / "loader", api.url, DOCKER_HOST=wire.host) as running,
    ):
        assert login(running.url).status == 200
        assert reasons(running) == []
        wire.hold_response()
        started = time.monotonic()
        assert reasons(running) == ["ENGINE_UNAVAILABLE"]
        assert time.monotonic() - started < 5
        wire.heal()
        assert reasons(running) == []


def test_every_reason_is_listed(lonely: BareSite) -> None:
    assert call(lonely.url, "GET", "/health").status == 200
    login(lonely.url).problem(503, "API_UNREACHABLE")
    assert reasons(lonely) == ["NOT_LOGGED_IN", "API_UNREACHABLE", "ENGINE_UNAVAILABLE"]


def test_a_cache_that_cannot_be_written_to_is_a_reason(tmp_path: Path, api: FaultyApi) -> None:
    blocking = tmp_path / "file"
    blocking.touch()
    with with_engine(tmp_path / "impossible", api.url, MODEL_CACHE_DIR=f"{blocking}/models") as running:
        assert reasons(running) == ["STORAGE_ERROR"]


def test_a_cache_on_a_read_only_disk_is_a_reason(tmp_path: Path, api: FaultyApi) -> None:
    if os.geteuid() != 0:
        missing("small disk", "mounting one needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False).returncode != 0:
        missing("small disk", "it cannot be mounted")
    try:
        with with_engine(tmp_path / "disk-loader", api.url, MODEL_CACHE_DIR=f"{disk}/models") as running:
            assert reasons(running) == []
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            assert reasons(running) == ["STORAGE_ERROR"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_of_all_kinds_get_a_response(lonely: BareSite, probe: str) -> None:
    for path, status in (("/health", 200), ("/ready", 503)):
        with open_socket(lonely.url) as connection:
            connection.sendall(PROBES[probe].format(path).encode())
            raw = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert (body == b"") is (probe == "HEAD")


def test_other_paths_refuse_such_probes(lonely: BareSite) -> None:
    parse_reply(send_and_close(lonely.url, b"GET /status HTTP/1.0\r\n\r\n")).problem(400, "UNTRUSTED_HOST")


def test_haproxy_distinguishes_healthy_from_ready(tmp_path: Path, api: FaultyApi) -> None:
    with with_engine(tmp_path, api.url) as running, haproxy(tmp_path, running.url.removeprefix("http://")) as states:
        poll(lambda: states() == {"health": "UP", "ready": "UP"}, SECONDS, "both are up")
        assert call(running.url, "POST", "/lock").status == 200
        poll(lambda: states() == {"health": "UP", "ready": "DOWN"}, SECONDS, "one is down")
        assert login(running.url).status == 200
        poll(lambda: states() == {"health": "UP", "ready": "UP"}, SECONDS, "both are up again")


@contextmanager
def haproxy(directory: Path, address: str) -> Iterator[Callable[[], dict[str, str]]]:
    """Run a real HAProxy that checks `/health` and `/ready` of `address`; yield a function that returns the states."""
    backends = "".join(
        f"backend {name}\n  option httpchk GET /{name}\n  server loader {address} check inter 100ms fall 1 rise 1\n"
        for name in ("health", "ready")
    )
    port = free_port()
    config = directory / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend stats\n  bind 127.0.0.1:{port}\n  stats enable\n  stats uri /\n{backends}"
    )
    try:
        process = ManagedProcess("haproxy", ["haproxy", "-db", "-f", str(config)], directory, env=clean_env(directory))
    except FileNotFoundError:
        missing("haproxy", "not installed")

    def states() -> dict[str, str]:
        rows = call(f"http://127.0.0.1:{port}", "GET", "/;csv").body.decode().splitlines()
        columns = [row.split(",") for row in rows if row.partition(",")[2].startswith("loader,")]
        return {row[0]: row[17] for row in columns}

    def answers() -> bool:
        try:
            return bool(states())
        except OSError:
            return False

    with process:
        process.wait_until(answers, SECONDS, "haproxy answers")
        yield states
