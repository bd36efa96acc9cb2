"""`python -m loader unlock`: the unlock of the running loader, watched from a terminal or a script."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from loader.cli.client import DeviceClient
from loader.cli.output import (
    draw,
    json_option,
    live,
    loader_option,
    progress_text,
    read_password,
    show,
    size_text,
    wants_json,
)
from loader.errors import Interrupted, LoaderProblem

POLL_SECONDS = 0.25


@click.command()
@click.option("--email", help="Who logs in to the resource API.")
@click.option("--plan", is_flag=True, help="Only show what would be done; needs no login.")
@loader_option
@json_option
def unlock(email: str | None, plan: bool, loader: DeviceClient) -> None:
    """Unlock the images of this device.

    Asks for the password on a terminal, else reads it as one line from standard input; it is never an argument. Shows
    the steps as they go. Ends with 0 when the device is ready, else prints code, sentence and hint.
    """
    if plan:
        document = loader.get("/unlock/plan")
        show(document, "\n".join(_plan_lines(document)))
        return
    if email is None:
        raise click.UsageError("--email is needed, or --plan.")
    loader.post("/unlock", {"email": email, "password": read_password()})
    status = _watch(loader)
    if status["state"] != "ready":
        detail = status["error"] or "The loader was started anew in the middle of the unlock."
        code, retryable = status["code"] or Interrupted.code, status["retryable"] is not False
        raise LoaderProblem(code, detail, status["hint"], retryable=retryable)
    show(status, "ready")


def _watch(loader: DeviceClient) -> dict[str, Any]:
    """Show the run until it rests; its last status."""
    shown = None
    while True:
        status = loader.get("/unlock/status")
        step = status["step"]
        at_rest = status["state"] in ("ready", "error", "idle")
        if step and live():
            label = f"{step['number']}/{step['of']} {step['name']}"
            draw(progress_text(status["percent"], label, status["rate"], status["eta_seconds"]), last=at_rest)
        elif step and step["name"] != shown and not wants_json():
            click.echo(f"step {step['number']} of {step['of']}: {step['name']}", err=True)
        if at_rest:
            return status
        shown = step["name"] if step else None
        time.sleep(POLL_SECONDS)


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    yield f"{plan['archive']}: made {plan['created']}, a tar of {size_text(plan['tar_size'])}, mode {plan['mode']}"
    words = {True: "present", False: "missing", None: "unknown"}
    for image in plan["images"]:
        size = f", {size_text(image['size'])}" if image["size"] is not None else ""
        yield f"  {image['reference']}: {words[image['present']]}{size}, created {image['created']}"
    for place in plan["places"]:
        verdict = (
            "fits" if place["fits"] and place["writable"] else "DOES NOT FIT" if place["writable"] else "READ-ONLY"
        )
        paths = " and ".join(place["paths"])
        yield f"  {paths}: needs {size_text(place['needed'])}, {size_text(place['free'])} free: {verdict}"
    if not plan["engine_answers"]:
        yield "  the Docker engine does not answer: its share is not known"
    if plan["done"]:
        yield "everything is there already: nothing would be written"
