"""The end of a command whose standard output cannot be written, for example because its disk is full."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click


def run_to_the_end(main: Callable[[], object]) -> None:
    """Run the command line `main`. If standard output fails, print one line and exit with 1."""
    try:
        main()
    except OSError as error:
        # click lets only errors of the output pass, and the commands translate all others.
        click.echo(f"Error: standard output cannot be written: {error.strerror}", err=True)
        _drop_output()
        sys.exit(1)
    except SystemExit as end:
        if end.code:
            _drop_output()
        raise


def output_has_failed() -> bool:
    """Return whether standard output does not take what was written to it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Drop what standard output has not taken, because Python would try once more at its end, and exit with 120."""
    if output_has_failed():
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
