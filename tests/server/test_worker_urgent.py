"""`GET /health` and `POST /lock` while every other thread of the worker waits for a client: they have their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.support.http_calls import call, open_socket
from tests.support.processes import poll
from tests.support.sites import NOBODY_LISTENS, BareSite, bare_site

THREADS = 2
SECONDS = 20.0
PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
# A thread waits for the body of this request, for ten seconds.
WITHOUT_BODY = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
)
STATUS = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    with bare_site(tmp_path_factory.mktemp("lane"), NOBODY_LISTENS, LOADER_THREADS=str(THREADS)) as bare:
        yield bare


@pytest.fixture
def taken(running: BareSite) -> Iterator[ExitStack]:
    """Every thread waits for a client, until the connections in here are closed."""
    with ExitStack() as opened:
        for _ in range(THREADS):
            opened.enter_context(open_socket(running.url)).sendall(WITHOUT_BODY)
        poll(lambda: not answers(running, STATUS), SECONDS, "all are taken")
        yield opened


def answers(running: BareSite, request: bytes, seconds: float = 0.3) -> bool:
    """Whether the request is answered with 200 within `seconds`."""
    with open_socket(running.url) as connection:
        connection.settimeout(seconds)
        connection.sendall(request)
        try:
            return b" 200 OK\r\n" in connection.recv(1 << 16)
        except TimeoutError:
            return False


@pytest.mark.usefixtures("taken")
def test_liveness_waits_for_nobody(running: BareSite) -> None:
    for _ in range(5):
        assert answers(running, PROBE + b"\r\n", SECONDS)
    assert answers(running, PROBE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", SECONDS)
    assert not answers(running, STATUS)


def test_others_go_on_when_the_threads_are_free_again(running: BareSite, taken: ExitStack) -> None:
    taken.close()
    assert call(running.url, "GET", "/status").status == 200


@pytest.mark.usefixtures("taken")
def test_probes_on_one_connection_are_served_too(running: BareSite) -> None:
    with closing(HTTPConnection(urlsplit(running.url).netloc, timeout=SECONDS)) as connection:
        for _ in range(3):
            connection.request("GET", "/health")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b'{"status":"healthy"}\n')


@pytest.mark.usefixtures("taken")
def test_a_lock_waits_for_no_thread(running: BareSite) -> None:
    for length in (b"", b"Content-Length: 0\r\n"):
        assert answers(running, b"POST /lock HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n", SECONDS)
    assert not answers(running, b"POST /lock HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n")


def test_many_probes_leave_nothing_behind(running: BareSite) -> None:
    """gunicorn accepts no more connections than it counts as open."""
    connections = 1024
    for _ in range(connections + 1):
        assert answers(running, PROBE + b"\r\n", SECONDS)


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize(
    "head",
    [
        PROBE,
        PROBE + b"X: " + b"x" * 4000,
        PROBE + b"Content-Length: 5\r\n\r\n",
        PROBE + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_whole_probe_waits_and_holds_up_nothing(running: BareSite, head: bytes) -> None:
    assert not answers(running, head)
    with ExitStack() as opened:
        for _ in range(4):
            opened.enter_context(open_socket(running.url)).sendall(head)
        assert answers(running, PROBE + b"\r\n", SECONDS)


def test_a_probe_in_two_pieces_is_answered_by_the_others(running: BareSite) -> None:
    with open_socket(running.url) as connection:
        connection.settimeout(SECONDS)
        connection.sendall(PROBE)
        connection.sendall(b"\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_other_paths_are_not_mistaken_for_it(running: BareSite) -> None:
    assert call(running.url, "GET", "/healthy").status == 404
    assert call(running.url, "POST", "/health").status == 405
    assert call(running.url, "HEAD", "/health").status == 200
