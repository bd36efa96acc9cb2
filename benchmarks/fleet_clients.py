"""`python -m benchmarks.fleet_clients`: simulated devices, whose plan comes as JSON on standard input.

A process of its own, so that its time is not that of the program that measures. It prints as JSON a `Report`. A device
does what a loader does: it logs in, gets the fragment, a head and small parts, then one big part, on one connection. It
repeats a request that failed, after a random wait that grows to 15 s, and goes on with a big part where it was cut.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

ANSWER_SECONDS = 30.0
# How long a device tries the same request.
PATIENCE_SECONDS = 300.0
WAITS = (0.5, 8.0, 15.0)
READ_BYTES = 1 << 18
RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Plan:
    """`devices` (name and password) that begin evenly within `seconds`, and what each requests.

    `big` is a file with the content of the object of the last request, of which every byte is compared.
    """

    address: str
    devices: list[tuple[str, str]]
    seconds: float
    fragment: str
    head: str
    small: list[str]
    big_object: str
    big: str


@dataclass
class Report:
    """The seconds of each request by kind, repetitions and waits included, and of each whole device.

    `troubles` counts by kind what made a device repeat a request, or fail.
    """

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    troubles: Counter[str] = field(default_factory=Counter)
    complete: int = 0


class Trouble(Exception):
    """A request failed, and may be repeated. The text is its kind; `retry_after` is in seconds."""

    def __init__(self, kind: str, retry_after: float = 0.0) -> None:
        super().__init__(kind)
        self.retry_after = retry_after


class Device:
    """One simulated device."""

    def __init__(self, plan: Plan, report: Report, content: bytes) -> None:
        self._plan = plan
        self._report = report
        self._content = content
        self._token = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, name: str, password: str) -> None:
        """Do everything once."""
        started = time.perf_counter()
        credentials = json.dumps({"email": name, "password": password})
        self._token = json.loads(await self._repeated("login", "POST", "/login", credentials))["token"]
        await self._repeated("fragment", "GET", self._plan.fragment)
        await self._repeated("head", "GET", self._plan.head)
        for path in self._plan.small:
            await self._repeated("small part", "GET", path)
        await self._repeated("big part", "GET", self._plan.big_object)
        self._close()
        self._report.taken["device"].append(time.perf_counter() - started)
        self._report.complete += 1

    async def _repeated(self, kind: str, method: str, path: str, body: str = "") -> bytes:
        """Send a request until it succeeds; return its body, nothing for a big part, which is compared instead."""
        started, attempt, got, compared = time.perf_counter(), 0, bytearray(), 0
        is_big = kind == "big part"
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    async for piece in self._pieces(method, path, body, compared):
                        if is_big:
                            assert self._content[compared : compared + len(piece)] == piece
                            compared += len(piece)
                        else:
                            got += piece
                break
            except (OSError, TimeoutError, asyncio.IncompleteReadError, Trouble) as error:
                self._close()
                self._report.troubles[f"{kind}: {_kind(error)}"] += 1
                if time.perf_counter() - started > PATIENCE_SECONDS:
                    raise
                got.clear()
                await asyncio.sleep(getattr(error, "retry_after", 0.0) + RANDOM.uniform(0, WAITS[min(attempt, 2)]))
                attempt += 1
        assert not is_big or compared == len(self._content)
        self._report.taken[kind].append(time.perf_counter() - started)
        return bytes(got)

    async def _pieces(self, method: str, path: str, body: str, begin: int) -> AsyncIterator[bytes]:
        """Send one request and yield the body of its response from `begin` on. Raises OSError and Trouble."""
        if self._streams is None:
            host, _, port = self._plan.address.rpartition(":")
            self._streams = await asyncio.open_connection(host, int(port), limit=READ_BYTES)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._plan.address}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json"] if body else [f"Authorization: Bearer {self._token}"]
        lines += [f"Range: bytes={begin}-"] if begin else []
        writer.write("\r\n".join([*lines, "", body]).encode())
        status, headers = _parsed(await reader.readuntil(b"\r\n\r\n"))
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise Trouble(str(status), float(headers.get("retry-after", "0")))
        left = int(headers["content-length"])
        while left:
            piece = await reader.read(min(left, READ_BYTES))
            if not piece:
                raise Trouble("cut")
            left -= len(piece)
            yield piece
        if headers.get("connection") == "close":
            self._close()

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _kind(error: Exception) -> str:
    return str(error) if isinstance(error, Trouble) else type(error).__name__


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip().lower() for name, _, value in pairs}


async def main(plan: Plan) -> Report:
    """Run all devices."""
    report, content = Report(), Path(plan.big).read_bytes()

    async def begin(number: int, name: str, password: str) -> None:
        await asyncio.sleep(plan.seconds * number / len(plan.devices))
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, Trouble):
            await Device(plan, report, content).run(name, password)

    async with asyncio.TaskGroup() as group:
        for number, (name, password) in enumerate(plan.devices):
            group.create_task(begin(number, name, password))
    return report


if __name__ == "__main__":
    print(json.dumps(vars(asyncio.run(main(Plan(**json.load(sys.stdin)))))))
