"""What the commands share: the argument for the data directory."""

from pathlib import Path

import click

from resource_api.data_directory import DataDirectory

# The argument DIR of most commands: a data directory that `init` made.
data_argument = click.argument(
    "data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    callback=lambda _context, _parameter, path: DataDirectory.open(path),
)
