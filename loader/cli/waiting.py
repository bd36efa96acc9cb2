"""How long a command waits for what may pass: a loader that starts, a login, a busy or unreachable service."""

from __future__ import annotations

import secrets
import time

import click

from loader.cli.output import json_wanted
from loader.errors import LoaderError, LoaderProblem, NotLoggedIn

PAUSE_SECONDS = 1.0
_random = secrets.SystemRandom()

wait_option = click.option(
    "--wait",
    "wait",
    type=click.FloatRange(0, 31_536_000),
    default=0.0,
    metavar="SECONDS",
    help="Try again what may pass, for so many seconds.",
)


class Waiting:
    """The time that is left to try again. It starts again whenever there is progress."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._told = ""
        self.renew()

    def renew(self) -> None:
        """Note that there is progress."""
        self._deadline = time.monotonic() + self._seconds

    def before_retry(self, failure: LoaderError) -> None:
        """Sleep until the next attempt: as long as Retry-After says, else one to two seconds. Tell what is waited for.

        Raises `failure` if it does not pass by itself or by a login, or if the time is over.
        """
        left = self._deadline - time.monotonic()
        if left <= 0 or not (failure.retryable or failure.code == NotLoggedIn.code):
            raise failure
        if str(failure) != self._told and not json_wanted():
            self._told = str(failure)
            click.echo(f"waiting: {failure} ({failure.code})", err=True)
        asked = failure.retry_after if isinstance(failure, LoaderProblem) else None
        # A server that says 0 must not be asked without a pause.
        time.sleep(min(left, asked or PAUSE_SECONDS + _random.random()))
