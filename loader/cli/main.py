"""The command line: `python -m loader`."""

from __future__ import annotations

import sys
from typing import Any

import click

from loader.cli.cache import cache
from loader.cli.device import load, lock, login, status, upload
from loader.cli.images import images, key
from loader.cli.output import show_failure
from loader.cli.unlock import unlock
from loader.errors import (
    ApiFault,
    ArchiveFault,
    Busy,
    CallerError,
    CommandFault,
    DeviceFault,
    LoaderError,
    LoginRejected,
    LoginThrottled,
    NotLoggedIn,
    kind_of,
)
from loader.version import VERSION

# The first that fits counts.
_BY_KIND: tuple[tuple[type[LoaderError], int], ...] = (
    (CommandFault, 3),
    (NotLoggedIn, 5),
    (LoginRejected, 5),
    (LoginThrottled, 5),
    (Busy, 9),
    (CallerError, 4),
    (ApiFault, 6),
    (ArchiveFault, 7),
    (DeviceFault, 8),
    (LoaderError, 1),
)


def exit_code(code: str) -> int:
    """The exit code for a failure with this code; 1 for one that is none of ours."""
    kind = kind_of(code) or LoaderError
    return next(number for family, number in _BY_KIND if issubclass(kind, family))


class _Commands(click.Group):
    """Prints what went wrong, and ends with the exit code for it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LoaderError as exc:
            show_failure(exc)
            sys.exit(exit_code(exc.code))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="azaion-loader")
def main() -> None:
    """Make and check what an Azaion Loader unlocks, and use a running one.

    \b
    To ship images to devices:
      python -m loader key new -o fragment.key
      python -m loader images pack app:1.4 db:1.4 --key fragment.key -o images.enc

    Give the key fragment to the resource API and to nobody else; copy images.enc to the devices. There:

    \b
      python -m loader unlock --plan
      python -m loader unlock --email operator@example.com
      python -m loader upload model.onnx day
      python -m loader load day/model.onnx -o model.onnx
    """


for command in (status, login, lock, unlock, load, upload, cache, key, images):
    main.add_command(command)
