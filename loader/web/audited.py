"""The audit line of a request: written once, however the request ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loader import logs
from loader.errors import LoaderError


@dataclass
class Audit:
    """What is known so far of one login, load or upload. `size` is the plaintext sent or taken so far, in bytes."""

    event: str
    file: str | None = None
    size: int | None = None
    started: float = field(default_factory=time.monotonic)

    def write(self, outcome: str, code: str | None = None) -> None:
        """Write the line."""
        seconds = time.monotonic() - self.started
        logs.audit(self.event, outcome, code=code, file=self.file, size=self.size, seconds=seconds)


@contextmanager
def failures_audited(event: str, file: str | None = None) -> Iterator[Audit]:
    """Write the line of a block that fails; one that succeeds leaves it to the caller."""
    audit = Audit(event, file)
    try:
        yield audit
    except LoaderError as exc:
        audit.write("failed", exc.code)
        raise
    except Exception:
        audit.write("failed", LoaderError.code)
        raise
