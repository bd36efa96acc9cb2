"""`python -m loader unlock`: the unlock of the running loader, watched from a terminal or a script."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from loader.device_client import DeviceClient, LoaderProblem
from loader.errors import Interrupted

POLL_SECONDS = 0.25
BAR_WIDTH = 24
DEFAULT_URL = "http://127.0.0.1:8080"

url_option = click.option(
    "--url",
    envvar="LOADER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="The loader: http://host:port or unix:/path.",
)


@click.command()
@click.option("--email", help="Who logs in to the resource API.")
@click.option("--plan", is_flag=True, help="Only show what would be done; needs no login.")
@url_option
def unlock(email: str | None, plan: bool, url: str) -> None:
    """Unlock the images of this device.

    Asks for the password on a terminal, else reads it as one line from standard input; it is never an argument. Shows
    the steps as they go. Exit codes: 0 ready, 1 failed (code, sentence and hint are printed), 2 wrong usage.
    """
    loader = DeviceClient(url)
    if plan:
        _show_plan(loader.get("/unlock/plan"))
        return
    if email is None:
        raise click.UsageError("--email is needed, or --plan.")
    loader.post("/unlock", {"email": email, "password": _password()})
    status = _watch(loader)
    if status["state"] != "ready":
        detail = status["error"] or "The loader was started anew in the middle of the unlock."
        raise LoaderProblem(status["code"] or Interrupted.code, detail, status["hint"])
    click.echo("ready")


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def _watch(loader: DeviceClient) -> dict[str, Any]:
    """Show the run until it rests; its last status."""
    live = sys.stderr.isatty()
    shown = None
    while True:
        status = loader.get("/unlock/status")
        step = status["step"]
        at_rest = status["state"] in ("ready", "error", "idle")
        if live and step:
            click.echo(f"\r\033[K{_bar(status)}", err=True, nl=at_rest)
        elif step and step["name"] != shown:
            click.echo(f"step {step['number']} of {step['of']}: {step['name']}", err=True)
        if at_rest:
            return status
        shown = step["name"] if step else None
        time.sleep(POLL_SECONDS)


def _bar(status: dict[str, Any]) -> str:
    step = status["step"]
    filled = BAR_WIDTH * status["percent"] // 100
    eta = "" if status["eta_seconds"] is None else f", {status['eta_seconds']:.0f} s left"
    return (
        f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {status['percent']:3} %  "
        f"{step['number']}/{step['of']} {step['name']}  {_size(status['rate'])}/s{eta}"
    )


def _show_plan(plan: dict[str, Any]) -> None:
    click.echo(f"{plan['archive']}: made {plan['created']}, a tar of {_size(plan['tar_size'])}, mode {plan['mode']}")
    words = {True: "present", False: "missing", None: "unknown"}
    for image in plan["images"]:
        size = f", {_size(image['size'])}" if image["size"] is not None else ""
        click.echo(f"  {image['reference']}: {words[image['present']]}{size}, created {image['created']}")
    for place in plan["places"]:
        verdict = (
            "fits" if place["fits"] and place["writable"] else "DOES NOT FIT" if place["writable"] else "READ-ONLY"
        )
        paths = " and ".join(place["paths"])
        click.echo(f"  {paths}: needs {_size(place['needed'])}, {_size(place['free'])} free: {verdict}")
    if not plan["engine_answers"]:
        click.echo("  the Docker engine does not answer: its share is not known")
    if plan["done"]:
        click.echo("everything is there already: nothing would be written")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
