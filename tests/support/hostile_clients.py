"""What clients that mean harm do with a connection to the loader, which they then keep."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

HOST = b"Host: localhost\r\n"
STATUS = b"GET /status HTTP/1.1\r\n" + HOST
BODY_TO_COME = b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def stay_silent(_: socket.socket) -> None:
    """Send nothing."""


def send_half_a_head(client: socket.socket) -> None:
    client.sendall(STATUS)


def send_a_head_without_its_body(client: socket.socket) -> None:
    client.sendall(BODY_TO_COME)


def linger(client: socket.socket) -> None:
    client.sendall(STATUS + b"Connection: close\r\n\r\n")


def reset(client: socket.socket) -> None:
    client.sendall(STATUS + b"\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def pipeline(client: socket.socket) -> None:
    client.sendall((STATUS + b"\r\n") * 20 + STATUS)


def read_nothing(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.sendall(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n")


def end_at_once(client: socket.socket) -> None:
    client.sendall(b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
    client.shutdown(socket.SHUT_WR)


KINDS: tuple[Callable[[socket.socket], None], ...] = (
    stay_silent,
    send_half_a_head,
    send_a_head_without_its_body,
    linger,
    reset,
    pipeline,
    read_nothing,
    end_at_once,
)
