"""A thread of gunicorn's worker that serves nothing but `GET /health`: liveness does not wait in the queue of others.

Many requests may stand before the worker's threads, most of them to be answered with BUSY. Who probes for liveness
would take a loader that is merely wanted for one that is dead, and kill it.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loader.web.silent_clients import ClientSocket

REQUEST_LINE = b"GET /health HTTP/1."
# More than probes send. A request is known by its whole head, so that no client can hold the thread with half of one.
HEAD_SIZE = 2048


def keep_a_lane_for_health(worker: Any) -> None:
    """Let `worker`, a gthread one that accepts no connection yet, treat requests as described above."""
    lane = ThreadPoolExecutor(1, thread_name_prefix="health")

    def enqueue(connection: Any) -> None:
        threads = lane if _asks_for_health(connection.sock) else worker.tpool
        served = threads.submit(worker.handle, connection)
        served.add_done_callback(lambda done: worker.method_queue.defer(worker.finish_request, connection, done))

    worker.enqueue_req = enqueue


def _asks_for_health(connection: object) -> bool:
    if not isinstance(connection, ClientSocket):
        return False
    try:
        head = connection.recv(HEAD_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return False
    return head.startswith(REQUEST_LINE) and head.endswith(b"\r\n\r\n")
