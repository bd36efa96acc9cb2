"""Counters of requests, which any worker process can tell for all of them.

They stand in memory that the processes share: the application is made before gunicorn forks. Each worker adds to a slot
of its own, so that no lock is shared, because a worker that is killed while it holds one would stop all others.
"""

import ctypes
import mmap
import threading
from collections.abc import Iterator

from resource_api.audit import EVENTS, READS, AuditRecord

# More than the workers that can live at a time, with those that end during a restart.
SLOTS = 64
KINDS = tuple(sorted({"login", "object", "other", *EVENTS.values(), *READS.values()}))
OUTCOMES = ("done", "refused", "failed", "cut")
# Upper limits in seconds; the last one of Prometheus, +Inf, is the number of requests.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
# Of each kind: requests by outcome, requests by duration, bytes, seconds.
_WIDTH = len(OUTCOMES) + len(BUCKETS) + 2
_VALUES = _WIDTH * len(KINDS)


class Metrics:
    """The counters of all processes that were forked from the one that made this object."""

    def __init__(self) -> None:
        array = ctypes.c_double * (SLOTS * _VALUES)
        # Anonymous memory, which forked processes share.
        self._values = array.from_buffer(mmap.mmap(-1, ctypes.sizeof(array)))
        self._lock = threading.Lock()
        self._slot = 0

    def use_slot(self, number: int) -> None:
        """Let this process count in a slot of its own; called after a fork. Workers are numbered by gunicorn."""
        self._slot = number % SLOTS
        self._lock = threading.Lock()

    def observe(self, record: AuditRecord) -> None:
        """Count a request that has ended."""
        kind = KINDS.index(record.event) if record.event in KINDS else KINDS.index("other")
        begin = self._slot * _VALUES + kind * _WIDTH
        durations = begin + len(OUTCOMES)
        with self._lock:
            self._values[begin + OUTCOMES.index(record.outcome)] += 1
            for number, limit in enumerate(BUCKETS):
                self._values[durations + number] += record.seconds <= limit
            self._values[durations + len(BUCKETS)] += record.bytes
            self._values[durations + len(BUCKETS) + 1] += record.seconds

    def text(self) -> str:
        """Return all counters in the text format 0.0.4 of Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        sums = {kind: self._sums(number) for number, kind in enumerate(KINDS)}
        yield "# TYPE resource_api_requests_total counter"
        for kind, values in sums.items():
            for outcome, value in zip(OUTCOMES, values, strict=False):
                yield f'resource_api_requests_total{{kind="{kind}",outcome="{outcome}"}} {value:.0f}'
        yield "# TYPE resource_api_bytes_total counter"
        for kind, values in sums.items():
            yield f'resource_api_bytes_total{{kind="{kind}"}} {values[-2]:.0f}'
        yield "# TYPE resource_api_request_seconds histogram"
        for kind, values in sums.items():
            requests = sum(values[: len(OUTCOMES)])
            for limit, value in zip(BUCKETS, values[len(OUTCOMES) :], strict=False):
                yield f'resource_api_request_seconds_bucket{{kind="{kind}",le="{limit}"}} {value:.0f}'
            yield f'resource_api_request_seconds_bucket{{kind="{kind}",le="+Inf"}} {requests:.0f}'
            yield f'resource_api_request_seconds_sum{{kind="{kind}"}} {values[-1]:.3f}'
            yield f'resource_api_request_seconds_count{{kind="{kind}"}} {requests:.0f}'

    def _sums(self, kind: int) -> list[float]:
        begins = range(kind * _WIDTH, SLOTS * _VALUES, _VALUES)
        return [sum(self._values[begin + number] for begin in begins) for number in range(_WIDTH)]


METRICS = Metrics()
