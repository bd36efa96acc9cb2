"""`python -m tools.soak` uses a loader for SOAK_MINUTES (default 20) while its surroundings fail.

The exit code is 1 if an invariant was violated.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

from tools.soak.clients import Client, Operator, Prober, Stranger
from tools.soak.inspection import faults_at_rest, worker_line
from tools.soak.schedule import Schedule
from tools.soak.tally import Tally
from tools.soak.world import CannotSoak, World, world

DEFAULT_MINUTES = "20"
CLIENTS = 4
LINE_SECONDS = 60.0
EACH_ONCE_SECONDS = 600.0


def main() -> int:
    """Run the soak; return 0 if every invariant held, 1 if not, 2 if the soak could not start."""
    try:
        seconds = 60 * float(os.environ.get("SOAK_MINUTES", DEFAULT_MINUTES))
    except ValueError:
        print("SOAK_MINUTES must be a number", file=sys.stderr)
        return 2
    # Turn SIGTERM into an exception, because the exception stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tally = Tally()
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as name, world(Path(name)) as running:
            _soak(running, tally, seconds)
            for fault in faults_at_rest(running):
                tally.violation(fault)
    except CannotSoak as exc:
        print(f"cannot soak: {exc}", file=sys.stderr)
        return 2
    return verdict(tally)


def verdict(tally: Tally) -> int:
    """Print all violations and return the exit code."""
    for what, count in sorted(tally.violations.items()):
        print(f"BROKEN, {count} times: {what}")
    print("every invariant held" if not tally.violations else f"{sum(tally.violations.values())} violations")
    return 1 if tally.violations else 0


def _soak(running: World, tally: Tally, seconds: float) -> None:
    """Use the loader for `seconds`, and at least until each trouble was there once."""
    over = threading.Event()
    schedule = Schedule(running, tally, over, seconds)
    threads: list[threading.Thread] = [Client(running, tally, over, number) for number in range(CLIENTS)]
    threads += [Operator(running, tally, over), Prober(running, tally, over), Stranger(running, over), schedule]
    started = monotonic()
    for thread in threads:
        thread.start()
    try:
        while (left := seconds - (monotonic() - started)) > 0:
            over.wait(min(left, LINE_SECONDS))
            _print_line(running, tally, monotonic() - started)
        schedule.each_once.wait(EACH_ONCE_SECONDS)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    _print_line(running, tally, monotonic() - started)


def _print_line(running: World, tally: Tally, seconds: float) -> None:
    broken = sum(tally.violations.values())
    print(
        f"{seconds:5.0f} s  broken {broken}; {worker_line(running)}; "
        f"forgotten connections {running.link.forgotten}; {tally.line()}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
