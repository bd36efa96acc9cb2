"""The health check of the containers: the exit code is 0 if GET /health returns 200, and 1 if not.

The argument is the address of the server; without one it is LOADER_BIND.

It uses a plain socket, because it runs every 30 seconds on small devices, and an HTTP client takes longer to import.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_SECONDS = 4.0
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  # nosec B104  # compared with, never listened on
# The loopback address at which to reach a server that listens on all addresses.
LOOPBACK = {ALL_ADDRESSES: "127.0.0.1", "::": "::1"}


def connect(bind: str) -> socket.socket:
    """Connect to the server that listens on `bind`, which is `host:port` or `unix:/path`; raises OSError."""
    if bind.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(bind.removeprefix("unix:"))
        return connection
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    return socket.create_connection((LOOPBACK.get(host, host), int(port)), TIMEOUT_SECONDS)


def is_healthy(bind: str) -> bool:
    """Return whether the server at `bind` responds with status 200."""
    try:
        with connect(bind) as connection, connection.makefile("rb") as response:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return response.readline().split()[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_healthy(sys.argv[1] if len(sys.argv) > 1 else os.environ["LOADER_BIND"]))
