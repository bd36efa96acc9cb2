"""The command group, and the exit codes: `azaion-loader`, or `python -m loader`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, cast

import click

from loader.cli.output import print_failure
from loader.errors import (
    ApiFault,
    ArchiveFault,
    Busy,
    CallerError,
    CommandFault,
    DeviceFault,
    Forbidden,
    LoaderError,
    LoginRejected,
    LoginThrottled,
    NotLoggedIn,
    SourceCorrupt,
    StorageError,
    kind_of,
)
from loader.version import VERSION

# The module of each command, whose function there has the name of the command. A module is imported when its command
# runs, because the service and the Docker SDK take longer to import than `status` takes to run.
COMMANDS = {
    "serve": "loader.cli.serve",
    "status": "loader.cli.device",
    "log": "loader.cli.log",
    "ready": "loader.cli.ready",
    "login": "loader.cli.device",
    "lock": "loader.cli.device",
    "unlock": "loader.cli.unlock",
    "load": "loader.cli.load",
    "upload": "loader.cli.device",
    "models": "loader.cli.models",
    "cache": "loader.cli.cache",
    "key": "loader.cli.key",
    "sign": "loader.cli.signing",
    "images": "loader.cli.images",
    "resources": "loader.cli.resources",
}

# click itself adds 0, and 2 for wrong usage. The first row that matches an error counts.
_EXIT_CODES: tuple[tuple[type[LoaderError], int], ...] = (
    (SourceCorrupt, 4),
    (CommandFault, 3),
    (NotLoggedIn, 5),
    (LoginRejected, 5),
    (Forbidden, 5),
    (LoginThrottled, 5),
    (Busy, 9),
    (CallerError, 4),
    (ApiFault, 6),
    (ArchiveFault, 7),
    (DeviceFault, 8),
    (LoaderError, 1),
)


def exit_code(code: str) -> int:
    """Return the exit code for an error with this `code`, and 1 for a code that the loader does not know."""
    kind = kind_of(code) or LoaderError
    return next(number for family, number in _EXIT_CODES if issubclass(kind, family))


class LazyGroup(click.Group):
    """A group that imports a command when it runs. `modules` are the modules of its commands, by their names."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = modules

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return list(self._modules)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None for a name that is not a command."""
        if cmd_name not in self._modules:
            return None
        command: click.Command = getattr(importlib.import_module(self._modules[cmd_name]), cmd_name)
        return command


class _Commands(LazyGroup):
    """The group of all commands: ends with the exit code for the LoaderError that a command raises.

    If the reader of its output has gone, it ends by SIGPIPE, as other tools do.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print the error that it raises."""
        try:
            return self._invoke(ctx)
        except BrokenPipeError:
            # Only now, because a signal would end the process before `with` blocks have removed unfinished files.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.raise_signal(signal.SIGPIPE)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LoaderError as exc:
            print_failure(exc)
            sys.exit(exit_code(exc.code))


@click.group(cls=_Commands, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="azaion-loader")
def main() -> None:
    """Pack and verify archives for an Azaion Loader; run a loader and use it.

    \b
    To ship images to devices:
      azaion-loader key new -o fragment.key
      azaion-loader images pack app:1.4 db:1.4 --key fragment.key -o images.enc

    Give the key fragment to the resource API and to nobody else; copy images.enc to the devices. On a device:

    \b
      azaion-loader unlock --plan
      azaion-loader unlock --email operator@example.com
      azaion-loader upload model.onnx day
      azaion-loader load day/model.onnx -o model.onnx
    """


def run() -> None:
    """Run the command line of this process."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A signal that is ignored stays ignored, because `nohup` relies on it.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit_on_signal)
    if sys.stdout is not None:
        # Names of files come out as they came in, also if they are not UTF-8.
        cast("TextIOWrapper", sys.stdout).reconfigure(errors="surrogateescape")
    try:
        main()
    except OSError as exc:
        # Errors of standard output, such as a full disk, name no file. The owners of all else translate their errors.
        if exc.filename is not None:
            raise
        click.echo(f"Error: standard output cannot be written: {exc.strerror}", err=True)
        _drop_output()
        sys.exit(exit_code(StorageError.code))
    except SystemExit as exc:
        if exc.code:
            _drop_output()
        raise


def _drop_output() -> None:
    """Drop what standard output has not taken, because Python would try once more at its end, and exit with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    """Raise SystemExit, so that `with` blocks remove unfinished files."""
    sys.exit(128 + number)
