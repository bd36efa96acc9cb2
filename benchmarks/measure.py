"""The runner. Contenders take turns (A B C A B C ...), so that other load of the machine affects all of them alike."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.tables import Result, Row


class Missing(Exception):
    """A program that a benchmark needs is not on this machine; the text names it."""


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Contender:
    """`run` is timed, unless it returns its own time in seconds. `prepare` runs before it and is not timed.

    `mib`: how much data a run works on.
    """

    name: str
    mib: int
    run: Callable[[], float | None]
    prepare: Callable[[], None] = nothing


def p50_and_p99(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile by nearest rank, so that each is one of `values`."""
    ranked = sorted(values)
    p50, p99 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99))
    return p50, p99


def compare(title: str, rounds: int, ours: Contender, peers: Iterable[Callable[[], Contender]]) -> Result:
    """Measure `ours` and the contenders that `peers` make. Leave out and name those that raise Missing."""
    contenders = [ours]
    missing: list[str] = []
    for make in peers:
        try:
            contenders.append(make())
        except Missing as exc:
            missing.append(str(exc))
    rows = in_turns(title, contenders, rounds)
    return Result(title, tuple(row.against(rows[0]) for row in rows), tuple(missing))


def in_turns(title: str, contenders: Sequence[Contender], rounds: int) -> tuple[Row, ...]:
    """Return a row for each contender. The first round does not count: it fills the page cache and shows faults."""
    taken: list[list[float]] = [[] for _ in contenders]
    for number in range(1 + rounds):
        for contender, seconds in zip(contenders, taken, strict=True):
            once = _timed(contender)
            print(f"{title}, {_round_name(number, rounds)}: {once:8.3f} s  {contender.name}", file=sys.stderr)
            if number:
                seconds.append(once)
    return tuple(
        Row(contender.name, contender.mib, tuple(seconds), 1.0)
        for contender, seconds in zip(contenders, taken, strict=True)
    )


def _timed(contender: Contender) -> float:
    contender.prepare()
    os.sync()  # writes of earlier runs must not reach the disk during this one
    started = time.perf_counter()
    own = contender.run()
    return time.perf_counter() - started if own is None else own


def _round_name(number: int, rounds: int) -> str:
    return f"round {number} of {rounds}" if number else "warm-up"
