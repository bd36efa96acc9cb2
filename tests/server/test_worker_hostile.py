"""Clients that mean harm, many at a time: none holds up the loader, and nothing of them stays."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.hostile_clients import (
    BODY_TO_COME,
    HOST,
    KINDS,
    STATUS,
    linger,
    read_nothing,
    send_half_a_head,
    stay_silent,
)
from tests.support.http_calls import call, open_socket
from tests.support.loader_server import run_python
from tests.support.processes import free_port, poll
from tests.support.procfs import children, open_descriptors, rss_bytes, thread_count
from tests.support.range_sites import hasty_device
from tests.support.sites import NOBODY_LISTENS, BareSite, bare_site

SECONDS = 20.0
# Far less than the ten seconds that the loader gives a client for a head, a body of JSON or the rest of an upload.
URGENT_MAX_SECONDS = 5.0
HOSTILE_CONNECTIONS = 500
MEMORY_GROWTH = 32 << 20
DRAIN_SECONDS = 1.0
# A client that sends a byte now and then would take longer.
LATE_SECONDS = 15.0
UPLOAD_TO_COME = (
    b"POST /upload/x HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 1000000\r\nConnection: close\r\n\r\n"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    with bare_site(tmp_path_factory.mktemp("hostile"), NOBODY_LISTENS) as bare:
        yield bare


def seconds_of(running: BareSite, method: str, path: str) -> float:
    started = time.monotonic()
    assert call(running.url, method, path).status == 200
    return time.monotonic() - started


def trickle(clients: list[socket.socket], seconds: float) -> None:
    """Send a byte on some connections now and then, as slow clients do."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for client in random.sample(clients, min(20, len(clients))):
            try:
                client.send(b"x")
            except OSError:
                clients.remove(client)
        time.sleep(0.05)  # the pace of the clients, not a wait for something


def test_urgent_requests_are_served_among_hostile_clients_and_nothing_stays(running: BareSite) -> None:
    pid = running.loader.worker_pid
    seconds_of(running, "GET", "/status")
    before = (thread_count(pid), len(open_descriptors(pid)), rss_bytes(pid))
    with ExitStack() as opened:
        clients = [opened.enter_context(open_socket(running.url)) for _ in range(HOSTILE_CONNECTIONS)]
        for number, client in enumerate(clients):
            KINDS[number % len(KINDS)](client)
        slow = [client for number, client in enumerate(clients) if number % len(KINDS) in (1, 2)]
        for _ in range(5):
            assert seconds_of(running, "GET", "/health") < URGENT_MAX_SECONDS
            assert seconds_of(running, "POST", "/lock") < URGENT_MAX_SECONDS
            trickle(slow, 0.5)
    poll(lambda: len(open_descriptors(pid)) <= before[1], SECONDS, "all connections are closed")
    assert running.loader.worker_pid == pid
    assert seconds_of(running, "GET", "/status") < URGENT_MAX_SECONDS
    assert thread_count(pid) <= before[0] + 32 + 2  # those of the pools, which are started when they are needed
    assert rss_bytes(pid) < before[2] + MEMORY_GROWTH


@pytest.mark.parametrize("kind", [linger, send_half_a_head, stay_silent, read_nothing], ids=lambda kind: kind.__name__)
def test_no_kind_of_client_holds_up_the_event_loop(running: BareSite, kind: Callable[[socket.socket], None]) -> None:
    with ExitStack() as opened:
        for _ in range(60):
            kind(opened.enter_context(open_socket(running.url)))
        for _ in range(5):
            assert seconds_of(running, "GET", "/health") < URGENT_MAX_SECONDS
            assert seconds_of(running, "GET", "/status") < URGENT_MAX_SECONDS


def test_more_silent_clients_than_there_is_room_for_do_not_keep_others_out(running: BareSite) -> None:
    with ExitStack() as opened:
        for _ in range(1100):
            opened.enter_context(open_socket(running.url))
        assert seconds_of(running, "GET", "/health") < URGENT_MAX_SECONDS
        assert seconds_of(running, "GET", "/status") < URGENT_MAX_SECONDS


def test_more_waiting_requests_than_allowed_are_busy(tmp_path_factory: pytest.TempPathFactory) -> None:
    haste = {"loader.server.worker.MAX_WAITING_REQUESTS": 4}
    directory = tmp_path_factory.mktemp("busy")
    with hasty_device(directory, NOBODY_LISTENS, haste, LOADER_THREADS="2") as running, ExitStack() as opened:
        for _ in range(6):
            opened.enter_context(open_socket(running.url)).sendall(BODY_TO_COME)

        def is_busy() -> bool:
            with open_socket(running.url) as client:
                client.settimeout(0.5)
                client.sendall(STATUS + b"\r\n")
                try:
                    response = client.recv(1 << 16)
                except TimeoutError:
                    return False
            told = (b'"code": "BUSY"', b'"hint": "', b"\r\nRetry-After: ")
            return b" 503 " in response and all(each in response for each in told)

        poll(is_busy, SECONDS, "a further request is refused")
        assert seconds_of(running, "GET", "/health") < URGENT_MAX_SECONDS


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A loader that drains for a second, not for ten."""
    haste = {"loader.web.replies.DRAIN_SECONDS": DRAIN_SECONDS}
    with hasty_device(tmp_path_factory.mktemp("impatient"), NOBODY_LISTENS, haste) as bare:
        yield bare


def seconds_until_response(client: socket.socket, *, drip: bool) -> tuple[float, bytes]:
    started = time.monotonic()
    response = b""

    def responded() -> bool:
        nonlocal response
        client.settimeout(0.2)
        try:
            if drip:
                client.send(b"x")
            response = client.recv(1 << 16)
        except TimeoutError:
            return False
        return True

    poll(responded, SECONDS, "a response")
    return time.monotonic() - started, response


def test_a_drain_has_an_absolute_deadline(impatient: BareSite) -> None:
    with open_socket(impatient.url) as client:
        client.sendall(UPLOAD_TO_COME)
        seconds, response = seconds_until_response(client, drip=True)
    assert b" 401 " in response.partition(b"\r\n")[0]
    assert DRAIN_SECONDS <= seconds < LATE_SECONDS


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Host: localhost", b"Host: evil.example", b"400"),
        (HOST, HOST + b"Origin: http://evil.example\r\n", b"403"),
        (HOST, HOST + b"Sec-Fetch-Site: cross-site\r\n", b"403"),
    ],
)
def test_nothing_is_drained_for_another_host_or_origin(
    running: BareSite, old: bytes, new: bytes, status: bytes
) -> None:
    with open_socket(running.url) as client:
        client.sendall(UPLOAD_TO_COME.replace(old, new))
        seconds, response = seconds_until_response(client, drip=False)
    assert response.startswith(b"HTTP/1.1 " + status)
    assert seconds < URGENT_MAX_SECONDS


def test_a_gunicorn_without_what_the_worker_needs_is_refused_in_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(
        "import runpy\nimport loader.server.worker\n"
        "loader.server.worker.ATTRIBUTES = ('poller', 'no_such_thing')\n"
        "globals().update(runpy.run_path('gunicorn.conf.py'))\n"
    )
    bind = f"127.0.0.1:{free_port()}"
    ended = run_python(tmp_path, "-m", "gunicorn", "-c", str(settings), "wsgi:app", LOADER_BIND=bind)
    assert ended.returncode == 1
    assert re.search(
        r"^azaion-loader: gunicorn \S+ cannot be used: it has no no_such_thing$", ended.stderr, re.MULTILINE
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.long
def test_a_frozen_machine_does_not_cost_the_login(start_loader: StartLoader) -> None:
    timeout = 3
    loader = start_loader("--timeout", str(timeout))
    master, worker = loader.master_pid, loader.worker_pid
    for pid in (master, worker):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(timeout + 1.5)  # the time for which the machine is frozen
    for pid in (worker, master):
        os.kill(pid, signal.SIGCONT)
    thawed = time.monotonic()
    poll(lambda: time.monotonic() > thawed + timeout, SECONDS, "the master has looked several times")
    assert loader.worker_pid == worker


def test_a_worker_that_alone_is_stuck_is_replaced(start_loader: StartLoader) -> None:
    loader = start_loader("--timeout", "3")
    worker = loader.worker_pid
    os.kill(worker, signal.SIGSTOP)
    poll(lambda: children(loader.master_pid) not in ([], [worker]), SECONDS, "a new worker")
