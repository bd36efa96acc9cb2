"""`azaion-loader images`: the commands of the machine that ships images to devices, and those for a device."""

from __future__ import annotations

import click

from loader.cli.main import LazyGroup

# The module of each command, whose function there has the name of the command.
COMMANDS = {
    "pack": "loader.cli.pack",
    "show": "loader.cli.show",
    "verify": "loader.cli.show",
    "rewrap": "loader.cli.rewrap",
    "sign": "loader.cli.sign",
    "diff": "loader.cli.thin",
    "thin": "loader.cli.thin",
    "join": "loader.cli.thin",
    "publish": "loader.cli.publish",
    "releases": "loader.cli.publish",
    "install": "loader.cli.install",
    "fetch": "loader.cli.fetch",
    "back": "loader.cli.back",
    "prune": "loader.cli.prune",
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def images() -> None:
    """Pack, carry, show, verify, sign, rewrap and publish encrypted archives of Docker images.

    On a device: list and fetch published releases, install archives, go back to the previous release, and remove old
    versions of unlocked images.
    """
