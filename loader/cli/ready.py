"""`azaion-loader ready`: whether the loader can serve loads, for people and for what starts after it."""

from __future__ import annotations

import click

from loader.cli.client import LoaderClient
from loader.cli.output import json_option, loader_option, print_result
from loader.cli.waiting import Waiting, wait_option
from loader.errors import LoaderError, LoaderProblem


@click.command()
@wait_option
@loader_option
@json_option
def ready(wait: float, loader: LoaderClient) -> None:
    """Tell whether the loader can serve loads; the exit code is 0 if it can.

    With --wait the command waits until it can, also for a loader that is not running yet.
    """
    waiting = Waiting(wait)
    while True:
        try:
            document = loader.get("/ready")
            break
        except LoaderError as exc:
            waiting.before_retry(_passing(exc))
    print_result(document, "ready")


def _passing(failure: LoaderError) -> LoaderError:
    """Return the failure as one that may pass: somebody may log in, or start an engine."""
    return LoaderProblem(failure.code, str(failure), failure.hint, retryable=True)
