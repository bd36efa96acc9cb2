"""The login of commands that talk to the resource API themselves, and not to a loader."""

from __future__ import annotations

from dataclasses import replace

import click

from loader.api_client import configure, get_api_client
from loader.cli.output import environment_settings
from loader.cli.password import read_password
from loader.settings import Settings, variables


def _api_url(_ctx: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        return str(variables()["resource_api_url"].parse(url))
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


email_option = click.option("--email", required=True, help="E-mail address of a user of the resource API.")
api_option = click.option(
    "--api", metavar="URL", callback=_api_url, help="The resource API, in place of RESOURCE_API_URL."
)


def logged_in(email: str, api: str | None) -> Settings:
    """Log in to the API, and return the settings."""
    settings = environment_settings()
    if api is not None:
        settings = replace(settings, resource_api_url=api)
    configure(settings)
    get_api_client().login(email, read_password())
    return settings
