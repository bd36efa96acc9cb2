"""Sends attacks to a loader on raw sockets, many at a time, and counts its responses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from socket import SHUT_WR

from tests.support.http_calls import open_socket
from tests.web.hostile.requests import Attack

# There are fewer clients than transfer slots, so that most responses judge the attack and do not say BUSY.
CLIENTS = 6
PIPELINED = 25
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
FAULT_CODE = re.compile(rb'"code": ?"([A-Z_]+)"')
REFUSED_BY_SERVER = b"<html>"
FINAL, FAULT = 200, 500
EXAMPLE_SIZE = 300


@dataclass
class Outcome:
    """Counts of one delivery: `sent` by class of attack, `answers` by final status, and the faults among the responses.

    `html` counts the responses that gunicorn made itself, `silent` the connections without a final response.
    """

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    # The key is a status from 500 on and the `code` of the response, which is empty if gunicorn made the response.
    faults: Counter[tuple[int, str]] = field(default_factory=Counter)
    # For each fault, the first bytes that were sent on the connection where it occurred first.
    examples: dict[tuple[int, str], bytes] = field(default_factory=dict)
    html: int = 0
    silent: int = 0

    def add(self, other: Outcome) -> None:
        """Add the counts of `other`, and its examples of faults that have none here."""
        self.sent += other.sent
        self.answers += other.answers
        self.faults += other.faults
        self.examples = {**other.examples, **self.examples}
        self.html += other.html
        self.silent += other.silent

    def note(self, received: bytes) -> int:
        """Count the responses in `received`, all bytes of one connection, and return the number of final ones."""
        # The split returns the bytes before the first status line, then a status and the rest of its response in turn.
        _, *found = STATUS_LINE.split(received)
        statuses = [int(status) for status in found[::2]]
        for status, rest in zip(statuses, found[1::2], strict=True):
            self.html += REFUSED_BY_SERVER in rest
            if status >= FAULT:
                code = FAULT_CODE.search(rest)
                self.faults[status, code[1].decode() if code else ""] += 1
        final = [status for status in statuses if status >= FINAL]
        self.answers.update(final)
        return len(final)


def deliver(url: str, attacks: Iterable[Attack]) -> Outcome:
    """Send all `attacks` from several clients at a time and return the sum of their outcomes."""
    outcome = Outcome()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for part in clients.map(lambda batch: _deliver_batch(url, batch), _batches(attacks)):
            outcome.add(part)
    return outcome


def exchange(url: str, raw: bytes) -> bytes:
    """Send `raw`, shut down the sending side, and return all bytes received before the loader closes the connection.

    Raises TimeoutError if the loader stays silent.
    """
    received = bytearray()
    with open_socket(url) as connection:
        # The loader may refuse the request and close the connection before all is sent, so a broken connection is no
        # failure. A timeout is one, because the loader must not stay silent.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        with suppress(OSError):
            connection.shutdown(SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := connection.recv(1 << 16):
                received += piece
    return bytes(received)


def _batches(attacks: Iterable[Attack]) -> Iterator[list[Attack]]:
    for framed, same in groupby(attacks, lambda attack: attack.framed):
        while batch := list(islice(same, PIPELINED if framed else 1)):
            yield batch


def _deliver_batch(url: str, batch: list[Attack]) -> Outcome:
    """Send the whole batch, and send the attacks after a refusal again, because a refusal closes the connection."""
    outcome = Outcome(Counter(attack.kind for attack in batch))
    rest = batch
    while rest:
        raw = b"".join(attack.raw for attack in rest)
        final_count = outcome.note(exchange(url, raw))
        for fault in outcome.faults:
            outcome.examples.setdefault(fault, raw[:EXAMPLE_SIZE])
        outcome.silent += not final_count
        rest = rest[max(final_count, 1) :]
    return outcome
