"""Limits how often logins may fail. Holds rules only: no I/O, and the clock is a parameter.

- After five rejected logins within a minute, a client must wait 10 seconds. The next login that comes too early or is
  rejected starts a wait of 10 seconds again, and each one after it doubles the wait, up to ten minutes. Five rejections
  leave room for a typing error or two, and with these waits an attacker has some 150 guesses a day. Ten minutes limit
  the harm that a script with an old password can do to a person.
- After twenty rejected logins of all clients within a minute, every client must wait until the oldest of them is a
  minute old. This limits an attacker with many addresses. The wait does not grow, because otherwise one client could
  lock out all others.
- A login that is under way counts as rejected until it ends, so that parallel logins cannot pass the limits.

An accepted login clears the account of its client. So do ten quiet minutes after the wait, and a restart.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loader.errors import LoginRejected, LoginThrottled

WINDOW_SECONDS = 60.0
MAX_REJECTIONS = 5
MAX_REJECTIONS_OVERALL = 20
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 600.0
# Far more clients than MAX_REJECTIONS_OVERALL lets through before the first of them are forgotten.
MAX_CLIENTS = 1024

Clock = Callable[[], float]


@dataclass(frozen=True, eq=False)
class LoginAttempt:
    """One login that the throttle let through. Two attempts of the same client are not equal."""

    client: str


@dataclass
class _Account:
    """The rejected logins of one client. `doublings` is None until the client had to wait."""

    rejections: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_REJECTIONS))
    doublings: int | None = None
    blocked_until: float = -math.inf

    def wait(self, now: float, under_way: int) -> float:
        """Return the seconds that the next login must wait, 0 if it may go on.

        `under_way` is the number of logins of this client that have not ended. A login that comes too early doubles
        the wait.
        """
        if now < self.blocked_until:
            self.block(now)
            return self.blocked_until - now
        recent = sum(now - at < WINDOW_SECONDS for at in self.rejections)
        allowed = MAX_REJECTIONS - recent if self.doublings is None else 1
        return 1.0 if under_way >= allowed else 0.0

    def reject(self, now: float) -> None:
        """Count a rejected login."""
        self.rejections.append(now)
        full = len(self.rejections) == MAX_REJECTIONS and now - self.rejections[0] < WINDOW_SECONDS
        if self.doublings is not None:
            self.block(now)
        elif full:
            self.doublings, self.blocked_until = 0, now + FIRST_WAIT_SECONDS

    def accept(self) -> None:
        """Forget all rejections, because the client knows the password."""
        self.rejections.clear()
        self.doublings, self.blocked_until = None, -math.inf

    def block(self, now: float) -> None:
        """Make the client wait, and double its next wait."""
        doublings = self.doublings or 0
        wait = min(FIRST_WAIT_SECONDS * 2**doublings, LONGEST_WAIT_SECONDS)
        self.blocked_until = max(self.blocked_until, now + wait)
        if wait < LONGEST_WAIT_SECONDS:
            self.doublings = doublings + 1

    def is_over(self, now: float) -> bool:
        """Return whether nothing in this account can affect a later login."""
        quiet_since = self.blocked_until + LONGEST_WAIT_SECONDS
        old = not self.rejections or now - self.rejections[-1] >= WINDOW_SECONDS
        return old and now >= quiet_since


class LoginThrottle:
    """The accounts of all clients, in memory only. Safe to share between threads."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """`clock` returns seconds and never goes back."""
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._rejections: deque[float] = deque(maxlen=MAX_REJECTIONS_OVERALL)
        self._under_way: set[LoginAttempt] = set()

    def start(self, client: str) -> LoginAttempt:
        """Count a login of `client` as under way until `finish` is called with the returned attempt.

        Raises LoginThrottled if the login must wait.
        """
        with self._lock:
            now = self._clock()
            self._forget(now)
            account = self._accounts.get(client) or _Account()
            under_way = sum(attempt.client == client for attempt in self._under_way)
            wait = account.wait(now, under_way) or self._wait_overall(now)
            if wait:
                seconds = math.ceil(wait)
                sentence = f"Too many logins were rejected or are under way; try again in {seconds} seconds."
                raise LoginThrottled(sentence, seconds)
            self._accounts[client] = account
            attempt = LoginAttempt(client)
            self._under_way.add(attempt)
            return attempt

    def finish(self, attempt: LoginAttempt, *, rejected: bool | None = None) -> None:
        """End `attempt`, and count its outcome; `rejected` is None for a login that had none.

        May be called again for the same attempt, because an interrupted unlock ends its attempt before the outcome of
        the login is known. The outcome still counts then.
        """
        with self._lock:
            self._under_way.discard(attempt)
            if rejected is None:
                return
            account = self._accounts.setdefault(attempt.client, _Account())
            if rejected:
                now = self._clock()
                account.reject(now)
                self._rejections.append(now)
            else:
                account.accept()

    @contextmanager
    def finishing(self, attempt: LoginAttempt) -> Iterator[None]:
        """Finish `attempt` when the block ends: LoginRejected rejects it, no error accepts it."""
        try:
            yield
        except LoginRejected:
            self.finish(attempt, rejected=True)
            raise
        except BaseException:
            self.finish(attempt)
            raise
        self.finish(attempt, rejected=False)

    def _wait_overall(self, now: float) -> float:
        recent = [at for at in self._rejections if now - at < WINDOW_SECONDS]
        if len(recent) + len(self._under_way) < MAX_REJECTIONS_OVERALL:
            return 0.0
        return max(recent[0] + WINDOW_SECONDS - now, 1.0) if recent else 1.0

    def _forget(self, now: float) -> None:
        """Drop the accounts that are over, and one more if there are too many. Accounts of logins under way stay."""
        busy = {attempt.client for attempt in self._under_way}
        for client in [client for client, account in self._accounts.items() if account.is_over(now)]:
            if client not in busy:
                del self._accounts[client]
        if len(self._accounts) >= MAX_CLIENTS:
            idle = next((client for client in self._accounts if client not in busy), None)
            if idle is not None:
                del self._accounts[idle]
