"""A fake of the resource API that cuts, stalls, lies, redirects and never ends on demand, with objects in memory."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.fault_server import Exchange, FaultServer, SeenRequest

ANY_PATH = "*"
MIME = "application/octet-stream"
# The kernel otherwise accepts a small body as a whole, even if the server does not read it.
SMALL_BUFFER = 1 << 14
SLOW_READ_SIZE = 1 << 15


@dataclass(frozen=True)
class Fault:
    """One response of the API. Positions are byte offsets in its body.

    announced: the value of Content-Length; None is the true length, -1 omits the header.
    cut_after: the server closes the connection at this position.
    stall_after: the server sends nothing after this position until `FaultyApi.resume` or until the client closes.
    silent: the same stall, but before the status line.
    unread: the server responds without reading the body of the request.
    take: the server reads the body of the request at this many bytes a second; with 0, never (see `small_buffer`).
    endless: the head of another response and a piece of its body; the server repeats the piece without end.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    silent: bool = False
    unread: bool = False
    take: int | None = None
    endless: tuple[bytes, bytes] | None = None


# What an archive of the tests names its key fragment by. The fake ignores it, as a server with one fragment may.
CHECK = "0123456789abcdef"


class FaultyApi(FaultServer):
    """A running API, which is healthy until a test gives it faults.

    It accepts every token while `valid_token` is None, and only `valid_token` otherwise; a login then renews
    `valid_token`. `sent` and `taken` are the numbers of bytes that faults with `endless` have sent and that faults with
    `take` have read.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, small_buffer: bool = False) -> None:
        """Start listening. With `small_buffer` a client notices soon that the server reads slowly."""
        super().__init__(tls=tls)
        if small_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.objects: dict[str, bytes] = {}
        self.fragment = bytes(range(32))
        self.valid_token: str | None = None
        self.sent = 0
        self.taken = 0
        self._faults: dict[tuple[str, str], list[Fault]] = {}

    def answer(self, method: str, path: str, *faults: Fault) -> None:
        """Respond to the first request of `method` and `path` with the first fault, to the second with the second.

        The last fault applies to all further requests.
        """
        with self.lock:
            self._faults[method, path] = list(faults)

    def answer_all(self, method: str, fault: Fault) -> None:
        """Respond to every request of `method` with `fault`, except to the paths that were given to `answer`."""
        self.answer(method, ANY_PATH, fault)

    def reset(self) -> None:
        """Forget objects, faults, requests and the valid token, and let responses stall again."""
        super().reset()
        with self.lock:
            self.objects.clear()
            self._faults.clear()
            self.valid_token = None

    def respond(self, exchange: Exchange) -> None:
        """Send the next fault, or the response of a healthy resource API."""
        fault = self._next_fault(exchange.seen)
        if fault is not None and fault.take is not None:
            self._take(exchange, fault.take)
        elif fault is None or not fault.unread:
            exchange.read_body()
        self.note(exchange.seen)
        response = fault if fault is not None else self.healthy_response(exchange.seen)
        if response.endless is not None:
            self._send_without_end(exchange, *response.endless)
        else:
            _send(exchange, response)

    def healthy_response(self, seen: SeenRequest) -> Fault:
        """Return the response of a healthy resource API."""
        if (seen.method, seen.path) == ("POST", "/login"):
            body = self.new_login()
            if self.valid_token is not None:
                self.valid_token = f"token-{self.logins}"
            return Fault(body=body)
        if self.valid_token is not None and seen.headers.get("authorization") != f"Bearer {self.valid_token}":
            return Fault(401)
        if seen.path.partition("?")[0] == "/binary-split/key-fragment":
            return Fault(body=self.fragment)
        with self.lock:
            if seen.method == "PUT":
                self.objects[seen.path] = seen.body
                return Fault(201)
            found = self.objects.get(seen.path)
        return Fault(404) if found is None else Fault(body=found)

    def _next_fault(self, seen: SeenRequest) -> Fault | None:
        with self.lock:
            path = seen.path.partition("?")[0]
            faults = self._faults.get((seen.method, path)) or self._faults.get((seen.method, ANY_PATH), [])
            return faults.pop(0) if len(faults) > 1 else (faults[0] if faults else None)

    def _take(self, exchange: Exchange, rate: int) -> None:
        if not rate:
            self.resumed.wait()
        missing = int(exchange.seen.headers["content-length"])
        while not self.resumed.is_set() and (piece := exchange.rfile.read1(min(missing, SLOW_READ_SIZE))):
            missing -= len(piece)
            self.taken += len(piece)
            time.sleep(len(piece) / rate)

    def _send_without_end(self, exchange: Exchange, head: bytes, piece: bytes) -> None:
        exchange.wfile.write(head)
        while not self.resumed.is_set():
            exchange.wfile.write(piece)
            self.sent += len(piece)


def _send(exchange: Exchange, fault: Fault) -> None:
    if fault.silent:
        exchange.stall()
    announced = len(fault.body) if fault.announced is None else fault.announced
    sized = announced >= 0 and "Transfer-Encoding" not in fault.headers
    length = {"Content-Length": str(announced)} if sized else {}
    exchange.send_head(fault.status, {**length, "Content-Type": MIME, **fault.headers})
    if fault.stall_after is not None:
        exchange.wfile.write(fault.body[: fault.stall_after])
        exchange.stall()
        exchange.wfile.write(fault.body[fault.stall_after :])
    else:
        exchange.wfile.write(fault.body[: fault.cut_after])
