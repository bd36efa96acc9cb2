"""`azaion-loader ready`: whether the loader can serve loads, or has unlocked, for people and for what starts after."""

from __future__ import annotations

from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import json_option, loader_option, print_result
from loader.cli.unlock import ENDS, UNLOCK_COMMAND
from loader.cli.waiting import Waiting, wait_option
from loader.errors import ArchiveIncomplete, ArchiveNotFound, Busy, ImageNotFound, LoaderError, LoaderProblem

# The pause after a plan with work left, because each such plan makes trial requests to the engine.
PLAN_SECONDS = 5.0


@click.command()
@click.option("--unlocked", is_flag=True, help="Ask for the images of the archive in place of loads; needs no login.")
@wait_option
@loader_option
@json_option
def ready(unlocked: bool, wait: float, loader: LoaderClient) -> None:
    """Tell whether the loader can serve loads; the exit code is 0 if it can.

    With --unlocked: whether the engine has exactly the images of the archive at IMAGES_PATH, or without an archive
    those that this device expects, and no unlock is under way. Neither a login nor an earlier unlock counts.

    With --wait the command waits until it can, also for a loader that is not running yet. With --unlocked it ends early
    if the unlock failed or would fail for a reason that does not pass by itself; it waits for a login and for an
    archive.
    """
    waiting = Waiting(wait)
    look = _unlocked if unlocked else _serving
    while True:
        try:
            document = look(loader)
            break
        except LoaderError as exc:
            waiting.before_retry(exc)
    print_result(document, "images are ready" if unlocked else "ready")


def _serving(loader: LoaderClient) -> dict[str, Any]:
    """Return the document of a loader that can serve loads."""
    try:
        return loader.get("/ready")
    except LoaderError as exc:
        # Somebody may log in, or start an engine.
        raise _passing(exc) from exc


def _unlocked(loader: LoaderClient) -> dict[str, Any]:
    """Return the plan of an unlock that has nothing to do.

    The plan and not the state `ready`, because that state may belong to an earlier archive, and ends with the process.
    """
    status = loader.get("/unlock/status")
    if status["state"] not in ENDS:
        step = status["step"]["name"] if status["step"] is not None else status["state"]
        raise LoaderProblem(Busy.code, f"An unlock is under way: {step}.", retryable=True)
    plan = _plan(loader)
    if not plan["done"]:
        raise _missing(loader, plan, status)
    return plan


def _plan(loader: LoaderClient) -> dict[str, Any]:
    """Return the plan of an unlock that would not fail before its login."""
    try:
        plan = loader.get("/unlock/plan")
    except LoaderProblem as exc:
        if exc.code == ArchiveNotFound.code:
            # A fetch, or a person, may bring it.
            raise _passing(exc) from exc
        raise
    failure = plan["failure"]
    if failure is not None:
        # A fetch may bring the blobs.
        retryable = failure["retryable"] is True or failure["code"] == ArchiveIncomplete.code
        raise LoaderProblem(failure["code"], failure["detail"], failure["hint"], retryable=retryable)
    return plan


def _missing(loader: LoaderClient, plan: dict[str, Any], status: dict[str, Any]) -> LoaderProblem:
    """Return why images of the plan are missing: the last unlock failed, nobody has logged in, or nobody unlocks."""
    if status["code"] is not None:
        retryable = status["retryable"] is True
        return LoaderProblem(
            status["code"], status["error"], status["hint"], retryable=retryable, retry_after=PLAN_SECONDS
        )
    absent = [image["reference"] for image in plan["images"] if not image["present"]]
    sentence = f"The engine lacks {absent[0]} of release {plan['release']['version']}"
    sentence += f", and {len(absent) - 1} more." if absent[1:] else "."
    try:
        loader.get("/ready")
    except LoaderProblem as exc:
        return LoaderProblem(exc.code, f"{sentence} {exc}", exc.hint, retryable=True, retry_after=PLAN_SECONDS)
    return LoaderProblem(ImageNotFound.code, sentence, UNLOCK_COMMAND, retryable=True, retry_after=PLAN_SECONDS)


def _passing(failure: LoaderError) -> LoaderError:
    """Return the failure as one that may pass."""
    return LoaderProblem(failure.code, str(failure), failure.hint, retryable=True)
