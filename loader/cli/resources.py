"""`azaion-loader resources`: the objects of models at the resource API."""

from __future__ import annotations

import time
from pathlib import Path

import click

from loader.cli.api_login import api_option, email_option, logged_in
from loader.cli.output import count_text, json_option, print_result, size_text
from loader.sweep import sweep as sweep_objects

DAY = 86_400


@click.group()
def resources() -> None:
    """Tidy the models at the resource API."""


@resources.command("sweep")
@click.argument("state", type=click.Path(dir_okay=False, path_type=Path))
@email_option
@api_option
@click.option("--days", type=click.IntRange(1, 365), default=3, show_default=True, help="Days between the two runs.")
@json_option
def sweep(state: Path, email: str, api: str | None, days: int) -> None:
    """Remove big objects that no model names any more.

    The first run only notes them in the file STATE. A later run with the same STATE removes those that were noted so
    many days before and are still not named, so an upload that runs meanwhile keeps its object. Needs a publisher's
    account. Prompts for the password on a terminal, and reads it as one line of standard input elsewhere.
    """
    settings = logged_in(email, api)
    done = sweep_objects(state, settings.resource_api_url, days * DAY, time.time())
    lines = [
        *(f"{path}: cannot be read, so its big objects stay" for path in done.unreadable),
        *(f"{path}: removed" for path in done.removed),
        f"{count_text(len(done.removed), 'object')} removed, {size_text(sum(done.removed.values()))}; "
        f"{len(done.waiting)} noted, {size_text(sum(done.waiting.values()))}",
    ]
    document = {"removed": list(done.removed), "noted": list(done.waiting), "unreadable": done.unreadable}
    print_result(document, "\n".join(lines))
