"""The container's health check: ends with 0 if the loader answers GET /health at LOADER_BIND, else with 1.

It runs every half minute, on small devices too, hence the bare socket: importing an HTTP client takes longer.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_SECONDS = 4.0
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  # nosec B104  # compared with, never listened on
# A loader that listens on all addresses is reached at the loopback address of the same kind.
LOOPBACK = {ALL_ADDRESSES: "127.0.0.1", "::": "::1"}


def connect(bind: str) -> socket.socket:
    """A connection to a loader that listens on `bind`, `host:port` or `unix:/path`; raises OSError."""
    if bind.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(bind.removeprefix("unix:"))
        return connection
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    return socket.create_connection((LOOPBACK.get(host, host), int(port)), TIMEOUT_SECONDS)


def is_healthy(bind: str) -> bool:
    """True if the loader at `bind` answers, and well."""
    try:
        with connect(bind) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return answer.readline().split()[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_healthy(os.environ["LOADER_BIND"]))
