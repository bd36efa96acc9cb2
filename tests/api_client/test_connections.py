"""Connections that are kept for the next request."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from loader.api_client import deadlines
from loader.api_client.client import ApiClient
from loader.api_client.connections import TCP_NOTSENT_LOWAT, PlainConnection, PlainSocket
from resource_api.accounts import Role
from tests.api_client.conftest import TIMEOUTS
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.loader_server import REPOSITORY
from tests.support.resource_api_server import ResourceApiServer

SILENCE_SECONDS = 0.2


def test_an_upload_leaves_its_connection_for_the_next(
    resource_api: ResourceApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each part of an upload would cost the round trips of a new connection, and of TLS."""
    made: list[PlainConnection] = []
    connect = PlainConnection.connect

    def noted(connection: PlainConnection) -> None:
        made.append(connection)
        connect(connection)

    monkeypatch.setattr(PlainConnection, "connect", noted)
    resource_api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    client = ApiClient(resource_api.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login(EMAIL, PASSWORD)
    for content in (b"first", b"second"):
        client.put_object("x.small", content)
    assert len(made) == 1


def test_a_python_from_an_old_system_can_connect() -> None:
    """Its `socket` lacks a name, without which no loader started."""
    assert getattr(socket, "TCP_NOTSENT_LOWAT", TCP_NOTSENT_LOWAT) == TCP_NOTSENT_LOWAT
    program = "import socket; vars(socket).pop('TCP_NOTSENT_LOWAT', None); import loader.api_client.connections"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def seconds_of_silence(sock: PlainSocket) -> float:
    """Read from a peer that sends nothing. Return how long that took."""
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        sock.recv_into(bytearray(1))
    return time.monotonic() - begin


def test_steps_change_neither_the_silence_with_a_deadline_nor_that_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "CHECK_SECONDS", SILENCE_SECONDS / 20)
    ours, peer = socket.socketpair()
    with peer, PlainSocket(fileno=ours.detach()) as sock:
        sock.settimeout(SILENCE_SECONDS)
        with deadlines.deadline(60):
            assert seconds_of_silence(sock) >= SILENCE_SECONDS
        assert sock.gettimeout() == SILENCE_SECONDS
        # As each request sets it anew: the same value is no reason to give up earlier, or later.
        sock.settimeout(SILENCE_SECONDS)
        assert seconds_of_silence(sock) >= SILENCE_SECONDS
        sock.settimeout(None)
        peer.send(b"x")
        with deadlines.deadline(60):
            assert sock.recv_into(bytearray(1)) == 1
