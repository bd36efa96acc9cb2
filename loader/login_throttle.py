"""How often logins may fail before the next one has to wait: rules only, without I/O, with a clock that is handed in.

- Five rejected logins of one client within a minute, and it waits for 10 seconds. The next attempt that comes too early
  or is rejected again makes that 10 seconds from then on, and each one after it twice as much, ten minutes at most.
  Five leave room for a slip or two, and with these waits a day has some 150 guesses. Ten minutes bound what a script
  with an old password can do to a person.
- Twenty rejected logins of all clients within a minute, and all wait until the oldest of them is a minute ago. That
  bounds who has many addresses; it does not grow, since one could otherwise lock everybody out.
- A login that is under way counts as rejected until it has ended, so that many at once are no way around.

An accepted login clears its client's account, ten quiet minutes after the wait do too, and so does a restart.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from loader.errors import LoginRejected, LoginThrottled

WINDOW_SECONDS = 60.0
MAX_REJECTIONS = 5
MAX_REJECTIONS_OVERALL = 20
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 600.0
# More than the overall limit lets in before the first ones are forgotten.
MAX_CLIENTS = 1024

Clock = Callable[[], float]


@dataclass
class _Account:
    """What is remembered of one client. `doublings` is None until it had to wait."""

    rejections: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_REJECTIONS))
    under_way: int = 0
    doublings: int | None = None
    blocked_until: float = -math.inf

    def wait(self, now: float) -> float:
        """Seconds that a login must wait, 0 if it may go on. One that comes too early doubles the wait."""
        if now < self.blocked_until:
            self.block(now)
            return self.blocked_until - now
        recent = sum(now - at < WINDOW_SECONDS for at in self.rejections)
        allowed = MAX_REJECTIONS - recent if self.doublings is None else 1
        return 1.0 if self.under_way >= allowed else 0.0

    def reject(self, now: float) -> None:
        """Count a rejected login."""
        self.rejections.append(now)
        full = len(self.rejections) == MAX_REJECTIONS and now - self.rejections[0] < WINDOW_SECONDS
        if self.doublings is not None:
            self.block(now)
        elif full:
            self.doublings, self.blocked_until = 0, now + FIRST_WAIT_SECONDS

    def block(self, now: float) -> None:
        """Let the client wait, twice as long the next time."""
        doublings = self.doublings or 0
        wait = min(FIRST_WAIT_SECONDS * 2**doublings, LONGEST_WAIT_SECONDS)
        self.blocked_until = max(self.blocked_until, now + wait)
        if wait < LONGEST_WAIT_SECONDS:
            self.doublings = doublings + 1

    def is_over(self, now: float) -> bool:
        """Whether nothing of it matters any more."""
        quiet_since = self.blocked_until + LONGEST_WAIT_SECONDS
        old = not self.rejections or now - self.rejections[-1] >= WINDOW_SECONDS
        return not self.under_way and old and now >= quiet_since


class LoginThrottle:
    """The accounts of all clients, in memory only. Safe to share between threads."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """`clock` tells seconds and never goes back."""
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._rejections: deque[float] = deque(maxlen=MAX_REJECTIONS_OVERALL)
        self._under_way = 0

    def begin(self, client: str) -> LoginAttempt:
        """Let a login of `client` begin, or raise LoginThrottled. The attempt must be closed, or used as a context."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            account = self._accounts.get(client) or _Account()
            wait = account.wait(now) or self._wait_overall(now)
            if wait:
                seconds = math.ceil(wait)
                sentence = f"Too many logins were refused or are under way; the next may come in {seconds} seconds."
                raise LoginThrottled(sentence, seconds)
            self._accounts[client] = account
            account.under_way += 1
            self._under_way += 1
        return LoginAttempt(lambda rejected: self._judge(client, account, rejected), lambda: self._close(account))

    def _wait_overall(self, now: float) -> float:
        recent = [at for at in self._rejections if now - at < WINDOW_SECONDS]
        if len(recent) + self._under_way < MAX_REJECTIONS_OVERALL:
            return 0.0
        return max(recent[0] + WINDOW_SECONDS - now, 1.0) if recent else 1.0

    def _judge(self, client: str, account: _Account, rejected: bool) -> None:
        with self._lock:
            if rejected:
                now = self._clock()
                account.reject(now)
                self._rejections.append(now)
                self._accounts[client] = account
            else:
                account.rejections.clear()
                account.doublings, account.blocked_until = None, -math.inf

    def _close(self, account: _Account) -> None:
        with self._lock:
            account.under_way -= 1
            self._under_way -= 1

    def _forget(self, now: float) -> None:
        for client in [client for client, account in self._accounts.items() if account.is_over(now)]:
            del self._accounts[client]
        if len(self._accounts) >= MAX_CLIENTS:
            idle = next((client for client, account in self._accounts.items() if not account.under_way), None)
            if idle is not None:
                del self._accounts[idle]


class LoginAttempt:
    """A login that was let through: a context around it, which sees by its exception whether it was rejected.

    `close` ends an attempt that came to no login; a rejection counts even if it is seen after that.
    """

    def __init__(self, judge: Callable[[bool], None], close: Callable[[], None]) -> None:
        self._judge = judge
        self._close = close
        self._open = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # Judged before it is closed: in between it must not count for nothing.
        if error is None or isinstance(error, LoginRejected):
            self._judge(error is not None)
        self.close()

    def close(self) -> None:
        """Harmless if done before."""
        if self._open.acquire(blocking=False):
            self._close()
