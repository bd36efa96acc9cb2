"""`azaion-loader unlock`: starts the unlock of the running loader, and shows it in a terminal or to a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import (
    estimate_text,
    json_option,
    json_wanted,
    loader_option,
    print_failure,
    print_result,
    size_text,
)
from loader.cli.password import read_password
from loader.cli.watch import require_ended_well, watch
from loader.errors import ArchiveFault, ArchiveNotFound, Busy, DeviceFault, LoaderProblem, kind_of

# An unlock in the state `idle` is one that ended because the loader was restarted.
ENDS = ("ready", "error", "idle")
UNLOCK_COMMAND = "azaion-loader unlock --email EMAIL"
# The exit codes of --plan; those of `terraform plan -detailed-exitcode` mean the same.
NOTHING_TO_DO, WOULD_FAIL, WOULD_CHANGE = 0, 1, 2
GOES_ON = "The unlock goes on; azaion-loader status shows it. To stop it: azaion-loader unlock --cancel"
NOT_PROVEN = (
    "not proven: the images are in the engine, but no key fragment has authenticated on this device that they are right"
)


class _WithPlan(click.Command):
    """Wrong usage with --plan ends with 1, because its 2 says that an unlock would change something."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse `args`."""
        with _usage_would_fail("--plan" in args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _usage_would_fail(ctx.params["plan"]):
            return super().invoke(ctx)


@contextmanager
def _usage_would_fail(plan: bool) -> Iterator[None]:
    try:
        yield
    except click.UsageError as exc:
        if not plan:
            raise
        exc.show()
        raise click.exceptions.Exit(WOULD_FAIL) from exc


@click.command(cls=_WithPlan)
@click.option("--email", help="E-mail address of a user of the resource API.")
@click.option("--plan", is_flag=True, help="Only show what an unlock would do; needs no login.")
@click.option(
    "--allow-older", is_flag=True, help="Permit the release that the plan shows, though this device had a newer one."
)
@click.option("--cancel", is_flag=True, help="Stop the unlock that runs, and keep the login.")
@loader_option
@json_option
def unlock(email: str | None, plan: bool, allow_older: bool, cancel: bool, loader: LoaderClient) -> None:
    """Unlock the images of this device.

    Prompts for the password on a terminal, and reads it as one line of standard input elsewhere; it is never an
    argument. Shows each step. The exit code is 0 when the images are ready and the loader has logged in: an unlock that
    needs no login, because all images are there, logs in at its end. An error is printed with its code and a hint.

    --plan makes every check that needs no login. Its exit code is 0 if there is nothing to do, 2 if an unlock would
    change something, and 1 if it would fail, or if the usage of the command is wrong.
    """
    if cancel:
        if plan or allow_older or email is not None:
            raise click.UsageError("--cancel stands alone.")
        outcome = loader.post("/unlock/cancel")
        print_result(outcome, "no unlock runs" if outcome["state"] in ENDS else "the unlock stops")
        return
    if plan:
        if allow_older:
            raise click.UsageError("--allow-older is for an unlock, not for its --plan.")
        click.get_current_context().exit(_show_plan(loader))
    if email is None:
        raise click.UsageError("--email is needed, or --plan, or --cancel.")
    permitted = _permitted(loader) if allow_older else {}
    credentials = {"email": email, "password": read_password()}
    started = loader.post("/unlock", {**credentials, **permitted})["started"]
    status = watch(loader, "/unlock/status", ENDS, GOES_ON)
    require_ended_well(status, "ready", "unlock")
    if not status["proven"] and not json_wanted():
        click.echo(f"warning: {NOT_PROVEN}", err=True)
    if not (started and _has_logged_in(status)):
        if not json_wanted():
            click.echo(f"{readiness_text(status)}, without a login; logging in", err=True)
        loader.post("/login", credentials, patient=True)
        status = loader.get("/unlock/status")
    print_result(status, f"{readiness_text(status)}; logged in")


def readiness_text(status: dict[str, Any]) -> str:
    """Return what the state `ready` means, which says nothing about the login."""
    return "images are ready and proven" if status["proven"] else "images are ready, not proven"


def _has_logged_in(status: dict[str, Any]) -> bool:
    """Return whether the run has used its credentials, and the login is still there."""
    # There is no run, and no duration, if the images were ready without an archive.
    return status["authenticated"] and "downloading_key" in (status["duration_seconds"] or {})


def _show_plan(loader: LoaderClient) -> int:
    """Print the plan. Return the exit code."""
    try:
        plan = loader.get("/unlock/plan")
    except LoaderProblem as exc:
        kind = kind_of(exc.code)
        if kind is None or not issubclass(kind, ArchiveNotFound | ArchiveFault | DeviceFault) or kind is Busy:
            raise
        # No plan can be made of this archive, and an unlock would fail for the same reason.
        print_failure(exc)
        return WOULD_FAIL
    print_result(plan, "\n".join(_plan_lines(plan)))
    if plan["failure"] is not None:
        return WOULD_FAIL
    return NOTHING_TO_DO if plan["done"] else WOULD_CHANGE


def _permitted(loader: LoaderClient) -> dict[str, str]:
    """Return the field that permits the release of the plan, and tell which it is; no field if it is not older."""
    plan = loader.get("/unlock/plan")
    release, newest = plan["release"], plan["older_than"]
    if newest is None:
        return {}
    if not json_wanted():
        click.echo(f"permits {_release_text(release)}, though this device had {_release_text(newest)}", err=True)
    return {"allow_older": release["head"]}


def _release_text(release: dict[str, Any]) -> str:
    return f"release {release['version']} (serial {release['serial']}, made {release['created']})"


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    release, failure = plan["release"], plan["failure"]
    if release is None:
        yield f"{plan['archive']}: no archive, mode {plan['mode']}"
    else:
        yield f"{plan['archive']}: release {release['version']}, made {release['created']}, mode {plan['mode']}"
    for image in plan["images"]:
        # An image may have no time at which it was made.
        created = f", created {image['created']}" if image["created"] else ""
        yield f"  {image['reference']}: {_presence(image)}, for {image['platform']}{created}"
    for warning in plan["warnings"]:
        yield f"  warning: {warning}"
    if not plan["done"]:
        yield f"  {_work_text(plan['work'], at_most=not plan['engine_answers'])}"
        if plan["seconds"] is not None:
            yield f"  takes {estimate_text(plan['seconds'])}, if it goes as fast as the last unlock"
    for place in plan["places"]:
        paths = " and ".join(place["paths"])
        yield f"  {paths}: needs {size_text(place['needed'])}, {size_text(place['free'])} free: {_verdict(place)}"
    if not plan["engine_answers"]:
        yield "  the Docker engine does not respond: its disk space is not checked"
    if failure is not None:
        yield f"an unlock would fail: {failure['detail']} ({failure['code']})"
        yield f"What to do: {failure['hint']}"
    elif plan["done"]:
        yield "nothing to do: all images are present, and an unlock would only log in"
    else:
        yield f"What to do: {UNLOCK_COMMAND}"


def _presence(image: dict[str, Any]) -> str:
    size = size_text(image["size"])
    if image["present"] is None:
        return f"unknown, {size}"
    if image["present"]:
        return f"present, {size}"
    if image["update"]:
        return f"an update, {size}, of which {size_text(image['to_send'])} are sent"
    return f"missing, {size}"


def _verdict(place: dict[str, Any]) -> str:
    if not place["writable"]:
        return "READ-ONLY"
    if place["fits"]:
        return "fits"
    return "DOES NOT FIT" if place["takes_files"] else "OUT OF INODES"


def _work_text(work: dict[str, int], *, at_most: bool) -> str:
    read, sent, unpacked = (size_text(work[part]) for part in ("to_read", "to_send", "to_unpack"))
    limit = "at most " if at_most else ""
    return f"reads {limit}{read} of the archive, sends {limit}{sent} to the engine, which unpacks {limit}{unpacked}"
