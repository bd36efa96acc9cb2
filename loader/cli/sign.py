"""`azaion-loader images sign`: one more signature of an archive."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.archives import file_to_read, head_text, written_text
from loader.cli.output import ProgressBar
from loader.cli.signing import open_signing_key
from loader.packing.sign import sign as sign_archive


@click.command()
@click.argument("archive", type=file_to_read)
@click.option("--key", "key_file", required=True, type=file_to_read, help="File with the signing key.")
def sign(archive: Path, key_file: Path) -> None:
    """Sign the release in ARCHIVE, which keeps its other signatures.

    Needs no key fragment, so nothing of ARCHIVE is verified: run verify --key first if you did not pack it yourself.
    Signatures stay when ARCHIVE is thinned, joined or rewrapped. The passphrase of the key, if it has one, comes from
    the terminal, or is one line of standard input.
    """
    head = sign_archive(archive, open_signing_key(key_file), ProgressBar)
    click.echo(f"{head_text(head)}\n{written_text(archive)}")
