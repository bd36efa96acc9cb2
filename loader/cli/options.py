"""What the commands that talk to a running loader have in common: its address, `--json`, and the password."""

from __future__ import annotations

import sys

import click

from loader.cli.client import DeviceClient
from loader.cli.output import want_json

DEFAULT_URL = "http://127.0.0.1:8080"


def _client(_ctx: click.Context, _param: click.Parameter, url: str) -> DeviceClient:
    return DeviceClient(url)


def _note_json(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        want_json()


loader_option = click.option(
    "--url",
    "loader",
    envvar="LOADER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    callback=_client,
    help="The loader: http://host:port or unix:/path.",
)
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_note_json,
    help="Print one JSON document instead of text.",
)


def read_password() -> str:
    """Asked for on a terminal, else one line of standard input; never an argument, which others could see."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")
