"""`azaion-loader images rewrap`: the same archive under another key fragment."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.archives import file_to_read, file_to_write, key_option, written_text
from loader.cli.key import read_fragment
from loader.cli.output import ProgressBar, require_replaceable
from loader.packing.rewrap import rewrap as rewrap_archive


@click.command()
@click.argument("archive", type=file_to_read)
@key_option
@click.option("--new-key", required=True, type=file_to_read, help="File with the new key fragment.")
@click.option("-o", "--output", type=file_to_write, help="Whole archive to write; it may be ARCHIVE itself.")
def rewrap(archive: Path, key_file: Path, new_key: Path, output: Path | None) -> None:
    """Seal ARCHIVE with another key fragment.

    Without -o, only the new head is written: a file of some KB beside ARCHIVE, with the suffix .head instead of .enc.
    Everybody who had the former fragment can still read the blobs.
    """
    file = None if output is None else require_replaceable(output, key_file, new_key)
    written = rewrap_archive(archive, read_fragment(key_file), read_fragment(new_key), file, ProgressBar)
    click.echo(written_text(output or written))
