"""`azaion-loader serve`: the loader itself, under gunicorn."""

from __future__ import annotations

import sys

import click
from gunicorn.app import wsgiapp

PROGRAM = "azaion-loader serve"
SETTINGS = "python:loader.server.gunicorn_conf"
APPLICATION = "loader.server.wsgi:app"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("gunicorn_arguments", metavar="[GUNICORN ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
def serve(gunicorn_arguments: tuple[str, ...]) -> None:
    """Run the loader with gunicorn, in the foreground.

    Environment variables configure the loader. GUNICORN ARGUMENTS, such as `--pid FILE`, change settings of gunicorn;
    more than one worker process is refused.
    """
    # gunicorn runs in this process, because another one would import a `loader` of the current directory instead.
    sys.argv = [PROGRAM, "--config", SETTINGS, *gunicorn_arguments, APPLICATION]
    wsgiapp.run(prog=PROGRAM)
