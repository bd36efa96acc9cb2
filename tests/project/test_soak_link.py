"""The link of the soak: it balances, forgets idle connections, refuses, swallows, and leads to a portal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import call, open_socket
from tests.support.processes import poll
from tools.soak.link import Link
from tools.soak.portal import PAGE, Manner, Portal

IDLE_SECONDS = 0.4
REQUEST = b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def replicas() -> Iterator[list[FaultyApi]]:
    """Yield two APIs that say who they are. They are fakes, because they must be told apart."""
    with FaultyApi() as first, FaultyApi() as second:
        for number, api in enumerate((first, second)):
            api.answer_all("GET", Fault(body=b"replica %d" % number))
        yield [first, second]


@pytest.fixture
def link(replicas: list[FaultyApi]) -> Iterator[Link]:
    with Link([replica.url for replica in replicas], IDLE_SECONDS) as link:
        yield link


def said(link: Link) -> bytes:
    return call(link.url, "GET", "/any", silence_seconds=5).body


def assert_sound(link: Link) -> None:
    assert all({one, other} == {b"replica 0", b"replica 1"} for one, other in pairwise(said(link) for _ in range(4)))


def assert_swallowed(connection: socket.socket) -> None:
    """Check that nothing comes back, not even an end."""
    connection.sendall(REQUEST)
    connection.settimeout(2 * IDLE_SECONDS)
    with pytest.raises(TimeoutError):
        connection.recv(1)


def assert_cut(connection: socket.socket) -> None:
    with suppress(ConnectionResetError):  # where the link has not accepted it yet
        assert connection.recv(1) == b""


def test_the_replicas_take_turns(link: Link) -> None:
    assert_sound(link)


def test_an_idle_connection_is_forgotten_without_a_word_and_others_are_not(link: Link) -> None:
    with closing(open_socket(link.url)) as idle:
        poll(lambda: link.forgotten == 1, 5, "the connection is forgotten")
        assert_swallowed(idle)
        assert_sound(link)
    assert link.forgotten == 1


def test_what_is_refused_and_cut_works_again_at_the_same_address(link: Link) -> None:
    with closing(open_socket(link.url)) as before:
        with link.refusing():
            assert_cut(before)
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    said(link)
        assert_sound(link)


def test_swallowed_connections_stay_silent_and_new_ones_work(link: Link) -> None:
    with ExitStack() as opened:
        before = opened.enter_context(closing(open_socket(link.url)))
        with link.swallowing():
            meanwhile = opened.enter_context(closing(open_socket(link.url)))
            assert_swallowed(meanwhile)
        assert_swallowed(meanwhile)
        assert_swallowed(before)
        assert_sound(link)


@pytest.mark.parametrize(
    ("manner", "status", "kind"),
    [(Manner.PAGE, 200, "text/html"), (Manner.UNTYPED, 200, None), (Manner.REDIRECT, 302, None)],
)
def test_a_portal_responds_to_everything(link: Link, manner: Manner, status: int, kind: str | None) -> None:
    with Portal() as portal, link.leading_to(portal.url):
        portal.manner = manner
        for method in ("GET", "POST", "PUT"):
            reply = call(link.url, method, "/resources/any", b"" if method == "GET" else b"some bytes")
            assert (reply.status, reply.headers["Content-Type"]) == (status, kind)
            if status == HTTPStatus.FOUND:
                target = urlsplit(reply.headers["Location"])
                assert (target.hostname, target.port) == ("localhost", urlsplit(portal.url).port)
                reply = call(portal.url, "GET", target.path)
            assert (reply.status, reply.body) == (200, PAGE)
    assert_sound(link)
