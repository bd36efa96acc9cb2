"""Timeouts of connecting and sending: a slow line gets all its time, a stalled line gets the silence timeout."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiUnreachable
from tests.support.certificates import Authority
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD

CONNECT_SECONDS, SILENCE_SECONDS = 0.2, 0.5
# Without a limit, these calls would take a minute or never end.
LATE_SECONDS = 30.0
MIB = 1 << 20


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[FaultyApi]:
    tls = authority.sign("server").server_context() if request.param else None
    with FaultyApi(tls=tls, small_buffer=True) as running:
        yield running


def logged_in(server: FaultyApi, authority: Authority) -> ApiClient:
    client = ApiClient(server.url, ca_bundle=str(authority.path), timeouts=(CONNECT_SECONDS, SILENCE_SECONDS))
    client.login(EMAIL, PASSWORD)
    return client


def test_upload_to_a_peer_that_stops_reading_ends(authority: Authority, server: FaultyApi) -> None:
    server.answer_all("PUT", Fault(take=0))
    client = logged_in(server, authority)
    started = time.monotonic()
    with pytest.raises(ApiUnreachable):
        client.put_object("m/x.big", bytes(64 * MIB))
    assert SILENCE_SECONDS <= time.monotonic() - started < LATE_SECONDS


def test_upload_over_a_slow_line_arrives(authority: Authority, server: FaultyApi) -> None:
    """One piece takes longer than a connection may take to be made, and than the line may be silent."""
    server.answer_all("PUT", Fault(take=2 * MIB))
    client = logged_in(server, authority)
    started = time.monotonic()
    client.put_object("m/x.big", bytes(4 * MIB))
    assert time.monotonic() - started > 2 * SILENCE_SECONDS
    assert server.taken == 4 * MIB


def test_peer_that_accepts_no_connection_is_given_up() -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):  # fill the backlog, so that a further connection gets no response at all
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = ApiClient(url, ca_bundle=None, timeouts=(CONNECT_SECONDS, 60.0))
        started = time.monotonic()
        with pytest.raises(ApiUnreachable, match="in time"):
            client.login(EMAIL, PASSWORD)
        assert CONNECT_SECONDS <= time.monotonic() - started < LATE_SECONDS
