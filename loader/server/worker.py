"""The worker class of gunicorn for the loader and the resource API: no client can hold up the others.

gunicorn's own threaded worker has weaknesses that a device in the field cannot afford. In this worker

- a connection waits for the head of its request in the event loop, which costs no thread. If there is no room for a new
  connection, the one that has waited longest is closed;
- `GET /health` and `POST /lock` have two threads of their own, so that they wait in no queue; other requests get a 503
  if too many of them wait already;
- the event loop never waits for a client: a connection that ends stays in the loop until the client has closed it too;
- reading from a client has an absolute deadline, which a byte now and then does not extend: for the head of a request,
  for what is left of its body, and for whatever the application asks for (`ClientSocket.limit_reading`);
- a worker that ends refuses connections, which would otherwise wait for its last transfer in vain;
- a machine that was frozen (suspend, `docker pause`) does not cost the worker, and with it the login.

This module and `body` are the only ones that use internals of gunicorn. `Worker` refuses to start if this gunicorn does
not have them:

- `ThreadWorker`: the methods `accept`, `enqueue_req`, `finish_request`, `handle`, `handle_request`, `murder_pending`,
  `handle_exit`, `handle_quit` and `set_accept_enabled`;
  the attributes `alive`, `cfg`, `tmp`, `tpool`, `poller`, `method_queue`, `nr_conns`, `sockets`, `worker_connections`;
- `TConn`: `close(graceful=True)`, `init`, `sock`, `data_ready` and `parser.unreader.buf`;
- `Body` and `LengthReader`, the body of a request and its source: what `body` uses of them;
- `WorkerTmp.last_update`, which the master calls about once a second to see that the worker lives, and `close`.
"""

from __future__ import annotations

import errno
import re
import select
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

import gunicorn
from gunicorn.http.body import Body, LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker
from gunicorn.workers.workertmp import WorkerTmp

from loader.server.body import read_directly
from loader.server.client_socket import ClientSocket
from loader.server.memory import limit_stacks

SILENCE_SECONDS = 5.0
HEAD_SECONDS = 10.0
DRAIN_SECONDS = 10.0
LINGER_SECONDS = 2.0
LINGER_READ_SIZE = 1 << 16
URGENT_THREADS = 2
MAX_WAITING_REQUESTS = 256

# A longer head is read by a thread, which has a deadline for it.
HEAD_MAX_SIZE = 1 << 13
# With line feeds alone, too, because the parser refuses such a head at once.
HEAD_END = re.compile(rb"\r?\n\r?\n")
CLIENT_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
# An urgent request has no body, because its thread must not wait for the client.
URGENT_REQUEST_LINE = re.compile(rb"(?:GET|HEAD) /health[ ?]|POST /lock[ ?]")
BODY_HEADER = re.compile(rb"\r\n(?:transfer-encoding[ \t]*:|content-length[ \t]*:[ \t]*0*[1-9])", re.IGNORECASE)

_BUSY_DOCUMENT = (
    b'{"title": "Service Unavailable", "status": 503, "detail": "Too many requests are waiting.", "code": "BUSY", '
    b'"retryable": true, "hint": "Try again in a moment."}'
)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nCache-Control: no-store\r\nRetry-After: 2\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BUSY_DOCUMENT), _BUSY_DOCUMENT)
)

METHODS = {
    ThreadWorker: (
        *("accept", "enqueue_req", "finish_request", "handle", "handle_request", "murder_pending"),
        *("handle_exit", "handle_quit", "set_accept_enabled"),
    ),
    TConn: ("close", "init"),
    WorkerTmp: ("last_update", "close"),
    Body(None): ("read", "reader", "buf", "failed"),
    LengthReader(None, 0): ("read", "unreader", "length"),
}
ATTRIBUTES = ("alive", "cfg", "tmp", "tpool", "poller", "method_queue", "nr_conns", "sockets", "worker_connections")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's threaded worker, in which no client holds up the others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called in the master process. Exits if this gunicorn lacks something that this class uses."""
        super().__init__(*args, **kwargs)
        wanted: dict[Any, tuple[str, ...]] = {**METHODS, self: ATTRIBUTES}
        missing = [name for owner, names in wanted.items() for name in names if not hasattr(owner, name)]
        if missing:
            sys.exit(f"azaion-loader: gunicorn {gunicorn.__version__} cannot be used: it has no {', '.join(missing)}")
        self.tmp.close()
        self.tmp: WorkerTmp = _Heartbeat(self.cfg)

    def init_process(self) -> None:
        """Make what the event loop needs, then serve until the worker is told to stop."""
        limit_stacks()
        self._urgent_threads = ThreadPoolExecutor(URGENT_THREADS, thread_name_prefix="urgent")
        # Edge-triggered, because half a head would wake the level-triggered poller of gunicorn again and again.
        self._heads = select.epoll()
        self._without_head: dict[int, _Connection] = {}
        self._lingering: dict[ClientSocket, float] = {}
        self._requests = 0
        self._threads = int(self.cfg.threads)
        self._told_to_quit = False
        super().init_process()

    def run(self) -> None:
        """Run the event loop."""
        self.poller.register(self._heads, EVENT_READ, self._on_heads)
        super().run()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or not. A worker that ends closes its listening sockets; a new one has its own copies."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, which then waits for the head of its first request."""
        try:
            client, address = listener.accept()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                self._drop_longest_waiting()
            elif exc.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_waiting()
        self._wait_for_head(_Connection(self, client, address, listener.getsockname()))

    def enqueue_req(self, conn: Any) -> None:
        """Give a kept connection that has something to read to a thread, once the head of its request is here."""
        if conn.parser.unreader.buf.getvalue():
            self._serve(conn, urgent=False)
        elif (head := _whole_head(conn.sock.peek(HEAD_MAX_SIZE))) is not None:
            self._serve(conn, urgent=_is_urgent(head))
        else:
            self._wait_for_head(conn)

    def _wait_for_head(self, conn: _Connection) -> None:
        conn.sock.setblocking(False)
        conn.head_deadline = time.monotonic() + SILENCE_SECONDS
        self._without_head[conn.sock.fileno()] = conn
        self._heads.register(conn.sock, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def _on_heads(self, _: object) -> None:
        for descriptor, event in self._heads.poll(0):
            self._look_for_head(self._without_head[descriptor], ended=bool(event & CLIENT_ENDED))

    def _look_for_head(self, conn: _Connection, *, ended: bool) -> None:
        begin = conn.sock.peek(HEAD_MAX_SIZE)
        head = _whole_head(begin)
        # No more comes from a client that has ended: a thread finds that out, as it does for every request.
        if head is not None or ended:
            self._stop_waiting(conn)
            self._serve(conn, urgent=head is not None and _is_urgent(head))
        elif begin and not conn.has_begun:
            conn.has_begun = True
            conn.head_deadline = time.monotonic() + HEAD_SECONDS

    def _stop_waiting(self, conn: _Connection) -> None:
        del self._without_head[conn.sock.fileno()]
        self._heads.unregister(conn.sock)
        conn.has_begun = False
        conn.data_ready = True

    def _serve(self, conn: Any, *, urgent: bool) -> None:
        if not urgent and self._requests >= self._threads + MAX_WAITING_REQUESTS:
            with suppress(OSError):
                conn.sock.send(BUSY)
            self.nr_conns -= 1
            conn.close(graceful=True)
            return
        self._requests += not urgent
        threads = self._urgent_threads if urgent else self.tpool
        # The event loop finishes a request, because it alone may touch the poller.
        finish = partial(self.method_queue.defer, self._finish, conn, urgent)
        threads.submit(self.handle, conn).add_done_callback(finish)

    def _finish(self, conn: Any, urgent: bool, result: Future[Any]) -> None:
        self._requests -= not urgent
        self.finish_request(conn, result)

    def handle(self, conn: Any) -> Any:
        """Read and serve one request, whose head must be here within HEAD_SECONDS."""
        conn.sock.limit_reading(HEAD_SECONDS)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request whose head has been read. gunicorn then drops what is left of its body."""
        conn.sock.end_limit()
        read_directly(req)
        keep_alive = super().handle_request(req, conn)
        conn.sock.limit_reading(DRAIN_SECONDS)
        return keep_alive

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End without waiting for connections; threads that run a request or an unlock still end first.

        The event loop does it, because this signal handler may interrupt the thread pool while it starts a thread.
        gunicorn's own would then wait for a lock of the pool forever, or leave a thread that never ends.
        """
        self._told_to_quit = True
        self.handle_exit(sig, frame)

    def murder_pending(self) -> None:
        """Close the connections whose time is over. The event loop calls this at least once a second."""
        if self._told_to_quit:
            sys.exit(0)
        super().murder_pending()
        now = time.monotonic()
        for conn in list(self._without_head.values()):
            # A stopping worker does not wait for requests that have not begun.
            if conn.head_deadline <= now or not (self.alive or conn.has_begun):
                self._drop(conn)
        for client in [client for client, deadline in self._lingering.items() if deadline <= now]:
            self._end_lingering(client)

    def _drop_longest_waiting(self) -> None:
        if self._without_head:
            self._drop(next(iter(self._without_head.values())))

    def _drop(self, conn: _Connection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        conn.close()

    def linger(self, client: ClientSocket) -> None:
        """Close `client` once it has closed its side, because a reset could destroy the end of the response on its way
        (RFC 9112, section 9.6)."""
        try:
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            self.poller.register(client, EVENT_READ, self._read_lingering)
        except (OSError, ValueError):
            client.close()
            return
        # It counts as a connection meanwhile, so that a stopping worker waits for it too.
        self.nr_conns += 1
        self._lingering[client] = time.monotonic() + LINGER_SECONDS

    def _read_lingering(self, client: ClientSocket) -> None:
        try:
            ended = not client.recv(LINGER_READ_SIZE)
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        if ended:
            self._end_lingering(client)

    def _end_lingering(self, client: ClientSocket) -> None:
        del self._lingering[client]
        self.poller.unregister(client)
        client.close()
        self.nr_conns -= 1


class _Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection of gunicorn that waits for a head, and whose graceful end is left to the event loop."""

    def __init__(self, worker: Worker, client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, ClientSocket(fileno=client.detach()), address, server)
        self._worker = worker
        self.head_deadline = 0.0
        self.has_begun = False

    def close(self, graceful: bool = False) -> None:
        if graceful:
            self._worker.linger(self.sock)
        else:
            super().close()


class _Heartbeat(WorkerTmp):  # type: ignore[misc]  # gunicorn ships no types
    """The worker's sign of life, as the master reads it.

    The master looks about once a second. If it has not looked for long, it did not run itself. The worker was frozen
    with it then, and gets its whole timeout again.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self._longest_gap = cfg.timeout / 2
        self._looked = self._forgiven = time.monotonic()

    def last_update(self) -> float:
        now = time.monotonic()
        if now - self._looked > self._longest_gap:
            self._forgiven = now
        self._looked = now
        return max(float(super().last_update()), self._forgiven)


def _whole_head(begin: bytes) -> bytes | None:
    """Return the head of the request that begins so, or all of `begin` if a head is longer; None if more must come."""
    end = HEAD_END.search(begin)
    if end is not None:
        return begin[: end.end()]
    return begin if len(begin) == HEAD_MAX_SIZE else None


def _is_urgent(head: bytes) -> bool:
    """Return whether the request with this whole `head` is a `GET /health` or a `POST /lock` without a body."""
    return URGENT_REQUEST_LINE.match(head) is not None and not BODY_HEADER.search(head)
