"""Attacks sent to a loader on raw sockets, many at a time, and all that it answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from socket import SHUT_WR

from tests.support.hostile.requests import Attack
from tests.support.http_calls import open_socket

# Fewer than there are transfer slots, so that most answers are about the attack.
CLIENTS = 6
PIPELINED = 25
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
FAULT_CODE = re.compile(rb'"code": ?"([A-Z_]+)"')
REFUSED_BY_SERVER = b"<html>"
FINAL, FAULT = 200, 500
EXAMPLE_SIZE = 300


@dataclass
class Outcome:
    """What came of attacks: how many were sent, by class; the answers, by status; and the faults among them."""

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    # Status and code of answers from 500 on; the code is empty in one of gunicorn's own.
    faults: Counter[tuple[int, str]] = field(default_factory=Counter)
    # The begin of what was sent on the connection of the first of each fault.
    examples: dict[tuple[int, str], bytes] = field(default_factory=dict)
    html: int = 0
    silent: int = 0

    def add(self, other: Outcome) -> None:
        """Count what `other` has counted."""
        self.sent += other.sent
        self.answers += other.answers
        self.faults += other.faults
        self.examples = {**other.examples, **self.examples}
        self.html += other.html
        self.silent += other.silent

    def note(self, answer: bytes) -> int:
        """Count the answers in what came back on one connection; returns how many."""
        # What comes before the first status line, then statuses and the rest of each answer in turn.
        _, *found = STATUS_LINE.split(answer)
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
    """Send all of them, from several clients at a time."""
    outcome = Outcome()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for part in clients.map(lambda batch: _deliver_batch(url, batch), _batches(attacks)):
            outcome.add(part)
    return outcome


def exchange(url: str, raw: bytes) -> bytes:
    """Send `raw`, end the sending side, and return all that comes back before the loader ends the connection."""
    received = bytearray()
    with open_socket(url) as connection:
        # A refusal may come, and the connection end, before all is sent. A silent loader is a failure.
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
    """All on one connection; those behind a refusal, which ends it, go on the next one."""
    outcome = Outcome(Counter(attack.kind for attack in batch))
    rest = batch
    while rest:
        raw = b"".join(attack.raw for attack in rest)
        answered = outcome.note(exchange(url, raw))
        for fault in outcome.faults:
            outcome.examples.setdefault(fault, raw[:EXAMPLE_SIZE])
        outcome.silent += not answered
        rest = rest[max(answered, 1) :]
    return outcome
