"""Limits how often logins may be rejected. Holds rules only: no I/O, and the clock is a parameter.

- After five rejected logins within an hour, a client must wait 10 seconds. Each further rejection doubles the wait, up
  to ten minutes. Five rejections leave room for typing errors, and with these waits an attacker has some 150 guesses a
  day. Ten minutes limit the harm that a script with an old password can do to a person.
- After twenty rejected logins of all clients within a minute, a client with a rejection in this minute must wait until
  the oldest of the twenty is a minute old. This slows an attacker with many addresses. Other clients do not wait,
  because otherwise an attacker could lock them out.
- Logins that run at the same time cannot pass the limits: a client has as many turns as it has rejections left, and its
  next login waits for a turn, in the order of arrival. A login that hangs must not lock out another, so every ten
  seconds one of those that wait goes on without a turn.

The throttle counts all programs of this device as one client. It also counts all addresses of an IPv6 network of 64
bits as one, because a host usually has the whole network. An accepted login clears the rejections of its own e-mail,
but not those of others, because an attacker may have an account. An hour without a rejection clears everything, and so
does a restart.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from loader.errors import LoginRejected, LoginThrottled

WINDOW_SECONDS = 3600.0
MAX_REJECTIONS = 5
OVERALL_WINDOW_SECONDS = 60.0
MAX_REJECTIONS_OVERALL = 20
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 600.0
LONGEST_TURN_SECONDS = 10.0
# More rejections than the waits allow one client within an hour.
MAX_REMEMBERED = 64
# Far more clients than can matter at a time; it bounds the memory.
MAX_CLIENTS = 1024
THIS_DEVICE = "this device"

Clock = Callable[[], float]


class _Rejection(NamedTuple):
    """A rejected login: its time, and its e-mail address."""

    at: float
    email: str


@dataclass
class _Account:
    """The logins of one client. `next_wait` is what the next rejection costs in seconds, None if nothing yet."""

    rejections: deque[_Rejection] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))
    next_wait: float | None = None
    blocked_until: float = -math.inf
    # When a login last went on without a turn.
    overtaken_at: float = -math.inf
    # One object for each login that has not ended, in the order of arrival.
    logins: list[object] = field(default_factory=list)

    def turns(self, now: float) -> int:
        """Return how many logins may run at a time: as many as may be rejected before the client must wait."""
        return 1 if self.next_wait is not None else MAX_REJECTIONS - self._rejections_since(now - WINDOW_SECONDS)

    def has_rejection(self, now: float) -> bool:
        """Return whether a login was rejected within the last minute."""
        return self._rejections_since(now - OVERALL_WINDOW_SECONDS) > 0

    def reject(self, now: float, email: str) -> None:
        """Count a rejected login, and make the client wait if it has had too many."""
        self.rejections.append(_Rejection(now, email))
        if self.next_wait is None and self._rejections_since(now - WINDOW_SECONDS) >= MAX_REJECTIONS:
            self.next_wait = FIRST_WAIT_SECONDS
        if self.next_wait is not None:
            self.blocked_until = now + self.next_wait
            self.next_wait = min(2 * self.next_wait, LONGEST_WAIT_SECONDS)

    def accept(self, email: str) -> None:
        """Forget the rejections of this e-mail address, because the client knows its password."""
        others = [rejection for rejection in self.rejections if rejection.email != email]
        self.rejections.clear()
        self.rejections.extend(others)
        if not others:
            self.next_wait, self.blocked_until = None, -math.inf

    def is_over(self, now: float) -> bool:
        """Return whether nothing in this account can affect a later login."""
        return not self.logins and self._rejections_since(now - WINDOW_SECONDS) == 0

    def _rejections_since(self, then: float) -> int:
        return sum(rejection.at > then for rejection in self.rejections)


class LoginThrottle:
    """The accounts of all clients, in memory only. Safe to share between threads."""

    def __init__(self, max_at_once: int, clock: Clock = time.monotonic) -> None:
        """`max_at_once` bounds the logins of one client that run or wait; `clock` returns seconds and never goes back.

        The bound keeps threads free for other requests while logins take long.
        """
        self._max_at_once = max_at_once
        self._clock = clock
        # Notified when a login ends.
        self._changed = threading.Condition()
        self._accounts: dict[str, _Account] = {}
        self._rejections: deque[float] = deque(maxlen=MAX_REJECTIONS_OVERALL)

    def require_no_wait(self, address: str) -> None:
        """Raise LoginThrottled if a login of the client at this address must wait."""
        with self._changed:
            self._require_no_wait(self._accounts.get(_client_at(address), _Account()))

    @contextmanager
    def login(self, address: str, email: str) -> Iterator[None]:
        """Wait for a turn of the client at this address, and count the outcome of the login that the block makes.

        LoginRejected rejects it, no error accepts it; other errors count as no outcome. `address` is an IP address; any
        other text means a program of this device. Raises LoginThrottled if the login must wait for longer.
        """
        email = email.casefold()
        with self._changed:
            account, login = self._take_turn(_client_at(address))
        try:
            yield
        except LoginRejected:
            with self._changed:
                now = self._clock()
                account.reject(now, email)
                self._rejections.append(now)
            raise
        else:
            with self._changed:
                account.accept(email)
        finally:
            with self._changed:
                self._end(account, login)

    def _take_turn(self, client: str) -> tuple[_Account, object]:
        started = self._clock()
        self._forget(started)
        account = self._accounts.setdefault(client, _Account())
        if len(account.logins) >= self._max_at_once:
            raise LoginThrottled("Too many logins are under way; try again in 1 second.", 1)
        login = object()
        account.logins.append(login)
        try:
            while True:
                self._require_no_wait(account)
                now = self._clock()
                if account.logins.index(login) < account.turns(now):
                    return account, login
                left = max(started, account.overtaken_at) + LONGEST_TURN_SECONDS - now
                if left <= 0:
                    account.overtaken_at = now
                    return account, login
                self._changed.wait(left)
        except BaseException:
            self._end(account, login)
            raise

    def _end(self, account: _Account, login: object) -> None:
        account.logins.remove(login)
        self._changed.notify_all()

    def _require_no_wait(self, account: _Account) -> None:
        now = self._clock()
        wait = max(account.blocked_until - now, self._wait_overall(now) if account.has_rejection(now) else 0.0)
        if wait > 0:
            seconds = math.ceil(wait)
            raise LoginThrottled(f"Too many logins were rejected; try again in {seconds} seconds.", seconds)

    def _wait_overall(self, now: float) -> float:
        recent = [at for at in self._rejections if now - at < OVERALL_WINDOW_SECONDS]
        return recent[0] + OVERALL_WINDOW_SECONDS - now if len(recent) == MAX_REJECTIONS_OVERALL else 0.0

    def _forget(self, now: float) -> None:
        """Drop the accounts that are over, and one more if there are too many. Those with running logins stay."""
        for client in [client for client, account in self._accounts.items() if account.is_over(now)]:
            del self._accounts[client]
        if len(self._accounts) >= MAX_CLIENTS:
            idle = next((client for client, account in self._accounts.items() if not account.logins), None)
            if idle is not None:
                del self._accounts[idle]


def _client_at(address: str) -> str:
    """Return the name under which logins from `address` are counted."""
    try:
        ip = ip_address(address)
    except ValueError:
        return THIS_DEVICE
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return THIS_DEVICE
    return str(ip) if ip.version == 4 else str(ip_network((int(ip), 64), strict=False))
