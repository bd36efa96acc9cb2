"""A faulty API whose connections break below HTTP: before, within and after the handshake of TLS."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from tests.support.fault_server import READ_SIZE
from tests.support.faulty_api import FaultyApi

# What is done with one connection, of which nothing has been read.
Behaviour = Callable[[socket.socket], None]


class BreakableApi(FaultyApi):
    """A healthy API, with TLS if `tls` is given, until a test sets `behaviour` for all further connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.behaviour: Behaviour | None = None
        self._tls = tls
        if tls is not None:
            self.url = f"https://localhost:{self.port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handle one connection in its own thread."""
        if self.behaviour is not None:
            self.behaviour(request)
        elif self._tls is None:
            super().finish_request(request, client_address)
        else:
            with self._tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)


def silent(connection: socket.socket) -> None:
    """Read all and send nothing, until the client gives up."""
    while connection.recv(READ_SIZE):
        pass


def reset(connection: socket.socket) -> None:
    """Wait for the first bytes, and reset the connection."""
    connection.recv(READ_SIZE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closed(connection: socket.socket) -> None:
    """Read the request, and close."""
    connection.recv(READ_SIZE)


def says(message: bytes) -> Behaviour:
    """Respond with `message` to the first bytes, whatever they are."""

    def respond(connection: socket.socket) -> None:
        connection.recv(READ_SIZE)
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        # Wait for the client, because closing with unread bytes resets the connection and loses the response.
        silent(connection)

    return respond


def with_tls(context: ssl.SSLContext, then: Behaviour = closed) -> Behaviour:
    """Shake hands, and treat what is inside as `then` does."""

    def shake(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            then(secure)

    return shake
