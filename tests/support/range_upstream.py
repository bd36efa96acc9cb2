"""A fake resource API for large files, which it serves from the disk by Range and If-Range and damages on demand."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fault_server import POLL_SECONDS, Exchange, FaultServer, SeenRequest

PIECE_SIZE = 1 << 17
# The buffer is small, because its bytes count as sent even if the client is killed before it receives them.
SEND_BUFFER_SIZE = 1 << 17
OBJECTS = "/resources/"
SIGNATURE = "planted-signature"


@dataclass
class Held:
    """An object and the faults with which it is served. A test may change them at any time.

    All offsets count from the start of the object.

    cut_every: the number of bytes after which each response ends.
    cuts: offsets at which a response ends; each is used once.
    stalls: offsets at which a response stops until the client gives up or `resume` is called; each is used once.
    rate: the speed in bytes per second; None means no limit.
    announce: what the next responses add to their Content-Length. No response sends more than it announces.
    ranges: whether the server supports Range.
    statuses: the statuses of the next responses, which carry no object.
    damage, damage_once: offsets of bytes that are sent with one bit changed, always or once.
    sent: the number of bytes of bodies that were sent, never less than clients have received.
    """

    file: Path
    etag: str | None
    cut_every: int | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    rate: int | None = None
    announce: list[int] = field(default_factory=list)
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    damage: set[int] = field(default_factory=set)
    damage_once: set[int] = field(default_factory=set)
    sent: int = 0


class RangeUpstream(FaultServer):
    """A running server that accepts all its tokens that have not expired.

    With `guarded=False` it requires no token. With `redirect`, a status and a base URL, it redirects requests for big
    parts there.
    """

    def __init__(self, directory: Path, *, host: str = "127.0.0.1", guarded: bool = True) -> None:
        """Store the bodies of PUT requests as files in `directory`."""
        super().__init__(host=host)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)
        self.directory = directory
        self.guarded = guarded
        self.redirect: tuple[int, str] | None = None
        self.objects: dict[str, Held] = {}
        self._valid_from = 1

    def hold(self, path: str, file: Path, etag: str | None = '"1"') -> Held:
        """Serve `file` at `path`, which does not include `/resources/`, and return the new object."""
        held = self.objects[OBJECTS + path] = Held(file, etag)
        return held

    def requests(self, method: str | None = None, path: str | None = None) -> list[SeenRequest]:
        """Return the requests so far in order; `path` is that of an object, without `/resources/`."""
        return super().requests(method, None if path is None else OBJECTS + path)

    def expire_tokens(self) -> None:
        """Reject all tokens that were issued so far."""
        with self.lock:
            self._valid_from = self.logins + 1

    def resume(self) -> None:
        """End all stalls, and let running responses continue at full speed."""
        super().resume()
        for held in self.objects.values():
            held.rate = None

    def reset(self) -> None:
        """Remove all objects, redirects and noted requests. Running responses continue at full speed."""
        self.resume()
        with self.lock:
            self.objects.clear()
            self.redirect = None
        super().reset()

    def respond(self, exchange: Exchange) -> None:
        """Log in, store an object, or serve an object or a range of it."""
        seen = exchange.seen
        self.note(seen)
        if seen.method == "POST" and seen.path != "/login":
            exchange.read_body()
            exchange.send_whole(404)
        elif seen.method == "POST":
            exchange.read_body()
            exchange.send_whole(200, self.new_login(), {"Content-Type": "application/json"})
        elif seen.method == "PUT":
            file = self.directory / seen.path.replace("/", "+")
            with file.open("wb") as stored:
                exchange.read_body(stored.write)
            if self._may_go_on(exchange, Held(file, None)):
                self.hold(seen.path.removeprefix(OBJECTS), file)
                exchange.send_whole(201)
        else:
            held = self.objects.get(seen.path)
            if self._may_go_on(exchange, held) and held is not None:
                self._serve(exchange, held)

    def _may_go_on(self, exchange: Exchange, held: Held | None) -> bool:
        """Return True, or respond with a status of `statuses`, 401, 404 or a redirect, and return False."""
        seen = exchange.seen
        if not self._accepts(seen.headers.get("authorization", "")):
            exchange.send_whole(401)
        elif held is not None and held.statuses:
            exchange.send_whole(held.statuses.pop(0))
        elif self.redirect is not None and seen.path.endswith(".big"):
            status, base = self.redirect
            exchange.send_whole(status, headers={"Location": f"{base}{seen.path}?signature={SIGNATURE}"})
        elif held is None:
            exchange.send_whole(404)
        else:
            return True
        return False

    def _accepts(self, authorization: str) -> bool:
        match = re.fullmatch(r"Bearer token-(\d+)", authorization)
        return not self.guarded or (match is not None and self._valid_from <= int(match[1]) <= self.logins)

    def _serve(self, exchange: Exchange, held: Held) -> None:
        with held.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin, end = _wanted(exchange.seen, held, size)
            if begin >= size > 0:
                exchange.send_whole(416, headers={"Content-Range": f"bytes */{size}"})
                return
            length = end - begin + (held.announce.pop(0) if held.announce else 0)
            headers = {"Content-Length": str(length)}
            if held.etag is not None:
                headers["ETag"] = held.etag
            if "range" in exchange.seen.headers and held.ranges and (begin or end < size):
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            exchange.send_head(206 if "Content-Range" in headers else 200, headers)
            self._send(exchange, held, file.fileno(), begin, min(end, begin + length))

    def _send(self, exchange: Exchange, held: Held, file: int, begin: int, end: int) -> None:
        if held.cut_every is not None:
            end = min(end, begin + held.cut_every)
        position, due = begin, time.monotonic()
        while position < end:
            if self._take(held.cuts, position, begin):
                return
            if self._take(held.stalls, position, begin):
                exchange.stall()
            stop = min([end, position + PIECE_SIZE, *(at for at in held.cuts + held.stalls if at > position)])
            count = self._send_counted(exchange.connection, held, file, position, stop - position)
            position += count
            if held.rate is not None:
                due = max(due, time.monotonic() - POLL_SECONDS) + count / held.rate
                time.sleep(max(0.0, due - time.monotonic()))

    def _take(self, offsets: list[int], position: int, begin: int) -> bool:
        """Return whether `position` is in `offsets` and after the start of the response, and remove it there."""
        with self.lock:
            if position > begin and position in offsets:
                offsets.remove(position)
                return True
        return False

    def _send_counted(self, connection: socket.socket, held: Held, file: int, position: int, size: int) -> int:
        """Send a piece, and return how much of it was sent.

        The piece is counted before it is sent, because a test may read the count as soon as the client has the bytes.
        """
        count = 0
        with self.lock:
            held.sent += size
            damaged = {at for at in held.damage | held.damage_once if position <= at < position + size}
            held.damage_once -= damaged
        try:
            if damaged:
                piece = bytearray(os.pread(file, size, position))
                for at in damaged:
                    piece[at - position] ^= 1
                connection.sendall(piece)
                count = size
            else:
                count = os.sendfile(connection.fileno(), file, position, size)
        finally:
            with self.lock:
                held.sent -= size - count
        return count


def _wanted(seen: SeenRequest, held: Held, size: int) -> tuple[int, int]:
    """Return where the response begins and ends in an object of `size` bytes."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
    version = seen.headers.get("if-range")
    if match is None or not held.ranges or (version is not None and version != held.etag):
        return 0, size
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
