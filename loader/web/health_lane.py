"""`GET /health` of a new connection, served by the event loop of gunicorn's worker: liveness waits in no queue.

Many requests may stand before the worker's threads, most of them to be answered with BUSY. Who probes for liveness
would take a loader that is merely wanted for one that is dead, and kill it.
"""

from __future__ import annotations

import socket
from concurrent.futures import Future
from typing import Any

from loader.web.silent_clients import ClientSocket

REQUEST_LINE = b"GET /health HTTP/1."
# More than probes send.
HEAD_SIZE = 2048


def keep_a_lane_for_health(worker: Any) -> None:
    """Let `worker`, a gthread one that accepts no connection yet, treat requests as described above."""
    enqueue = worker.enqueue_req

    def enqueue_unless_health(connection: Any) -> None:
        if connection.initialized or not _asks_for_health(connection.sock):
            enqueue(connection)
            return
        served: Future[bool] = Future()
        served.set_result(worker.handle(connection))
        worker.finish_request(connection, served)

    worker.enqueue_req = enqueue_unless_health


def _asks_for_health(connection: object) -> bool:
    """Whether all of the request is there. Nothing then blocks the event loop: what is read has come, and the answer is
    the first on its connection, which has room for it."""
    if not isinstance(connection, ClientSocket):
        return False
    try:
        head = connection.recv(HEAD_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    return head.startswith(REQUEST_LINE) and head.endswith(b"\r\n\r\n")
