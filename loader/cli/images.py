"""`azaion-loader images`: the commands of the machine that ships images to devices, and those for a device."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.archives import file_to_read, file_to_write, head_text, key_option, written_text
from loader.cli.install import install
from loader.cli.key import read_fragment
from loader.cli.output import ProgressBar, count_text, json_option, print_result, require_replaceable, size_text
from loader.cli.pack import pack
from loader.cli.prune import prune
from loader.cli.thin import diff, join, thin
from loader.crypto.archive import ArchiveIndex
from loader.packing.rewrap import rewrap
from loader.packing.verify import document, read_index, verify


@click.group()
def images() -> None:
    """Pack, carry, show, verify and rewrap encrypted archives of Docker images.

    On a device: install archives, and remove old versions of unlocked images.
    """


for command in (diff, install, join, pack, prune, thin):
    images.add_command(command)


@images.command("show")
@click.argument("archive", type=file_to_read)
@json_option
def show_archive(archive: Path) -> None:
    """Print what ARCHIVE holds. Needs no key, so nothing of it is verified."""
    index = read_index(archive)
    print_result(document(index), f"{head_text(index.head)}\n{_index_text(archive, index)}")


@images.command("verify")
@click.argument("archive", type=file_to_read)
@click.option("--key", "key_file", type=file_to_read, help="File with the key fragment.")
def verify_archive(archive: Path, key_file: Path | None) -> None:
    """Compare every byte of ARCHIVE with its head.

    Nothing is written. Without --key this finds damage and tells nothing about the author. With --key everything is
    authenticated, and the content of each blob is compared with its digest.
    """
    index = verify(archive, None if key_file is None else read_fragment(key_file), ProgressBar)
    click.echo(f"{head_text(index.head)}\n{_index_text(archive, index)}")
    if key_file is None:
        click.echo(f"{archive}: undamaged. This does not prove who made it; use --key for that.")
    else:
        click.echo(f"{archive}: authentic and undamaged")


@images.command("rewrap")
@click.argument("archive", type=file_to_read)
@key_option
@click.option("--new-key", required=True, type=file_to_read, help="File with the new key fragment.")
@click.option("-o", "--output", type=file_to_write, help="Whole archive to write; it may be ARCHIVE itself.")
def rewrap_archive(archive: Path, key_file: Path, new_key: Path, output: Path | None) -> None:
    """Seal ARCHIVE with another key fragment.

    Without -o, only the new head is written: a file of some KB beside ARCHIVE, with the suffix .head instead of .enc.
    Whoever had the former fragment can still read the blobs.
    """
    file = None if output is None else require_replaceable(output, key_file, new_key)
    written = rewrap(archive, read_fragment(key_file), read_fragment(new_key), file, ProgressBar)
    click.echo(written_text(output or written))


def _index_text(archive: Path, index: ArchiveIndex) -> str:
    blobs = count_text(len(index.head.blobs), "blob")
    text = f"{archive}: {blobs}, {size_text(index.size)}, key check {index.seals.check}, root {index.head.root_id}"
    if index.absent:
        size = size_text(sum(blob.stored_size for blob in index.absent))
        text += f"\nincomplete: it lacks {count_text(len(index.absent), 'blob')} of {size}"
        text += "".join(f"\n  {blob.digest}" for blob in index.absent)
    return text
