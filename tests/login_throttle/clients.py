"""Clients that log in through a throttle. Its clock stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from loader.errors import ApiUnreachable, LoginRejected, LoginThrottled
from loader.login_throttle import LoginThrottle

CLIENT = "192.0.2.7"
OTHER = "192.0.2.8"
EMAIL = "op@example.com"
THREADS = 50
SECONDS = 20.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Logins:
    """A throttle, and clients that log in through it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(THREADS, self.clock)

    def reject(self, client: str = CLIENT, times: int = 1, email: str = EMAIL) -> None:
        """Let the API reject this many logins."""
        for _ in range(times):
            with suppress(LoginRejected), self.throttle.login(client, email):
                raise LoginRejected("Wrong.")

    def accept(self, client: str = CLIENT, email: str = EMAIL) -> None:
        """Let the API accept a login."""
        with self.throttle.login(client, email):
            pass

    def wait(self, client: str = CLIENT) -> int | None:
        """Return the seconds that a login is told to wait, None if it may start."""
        try:
            self.throttle.require_no_wait(client)
        except LoginThrottled as exc:
            with pytest.raises(LoginThrottled), self.throttle.login(client, EMAIL):
                pass
            return exc.retry_after
        return None

    @contextmanager
    def hanging(self, client: str = CLIENT, times: int = 1) -> Iterator[None]:
        """Let this many logins wait for the API until the block ends; then the API does not respond."""
        with suppress(ApiUnreachable), ExitStack() as under_way:
            for _ in range(times):
                under_way.enter_context(self.throttle.login(client, EMAIL))
            yield
            raise ApiUnreachable("It took too long.")

    def start(self, client: str = CLIENT) -> tuple[threading.Thread, threading.Event]:
        """Start a login in a thread; the event is set once it has its turn. It is accepted."""
        went_on = threading.Event()

        def log_in() -> None:
            with suppress(LoginThrottled), self.throttle.login(client, EMAIL):
                went_on.set()

        thread = threading.Thread(target=log_in)
        thread.start()
        return thread, went_on
