"""`azaion-loader images thin`, `join` and `diff`: carry only what changed. They need no key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from loader.cli.archives import file_to_read, file_to_write, written_text
from loader.cli.output import ProgressBar, count_text, json_option, print_result, require_replaceable, size_text
from loader.packing.difference import Difference
from loader.packing.thin import join as join_archive
from loader.packing.thin import thin as thin_archive
from loader.packing.verify import read_index

_base_option = click.option("--base", required=True, type=file_to_read, help="Archive of the earlier release.")
_output_option = click.option(
    "-o", "--output", required=True, type=file_to_write, help="Archive to write; replaced if it exists."
)


@click.command()
@click.argument("archive", type=file_to_read)
@_base_option
@_output_option
def thin(archive: Path, base: Path, output: Path) -> None:
    """Write ARCHIVE without the blobs that --base has.

    Of the base only the head is read. Pack ARCHIVE with --base too, because releases share blobs only then.
    """
    thin_archive(archive, base, require_replaceable(output, archive, base), ProgressBar)
    click.echo(written_text(output))


@click.command()
@click.argument("archive", type=file_to_read)
@_base_option
@_output_option
def join(archive: Path, base: Path, output: Path) -> None:
    """Write the thin ARCHIVE with all of its blobs.

    Those that ARCHIVE lacks come from --base. The result is the archive that was thinned, byte for byte.
    """
    join_archive(archive, base, require_replaceable(output, archive, base), ProgressBar)
    click.echo(written_text(output))


@click.command()
@click.argument("old", type=file_to_read)
@click.argument("new", type=file_to_read)
@json_option
def diff(old: Path, new: Path) -> None:
    """Print what NEW shares with OLD, and what a thin archive of NEW would weigh.

    Only heads are read, and nothing of them is verified.
    """
    found = Difference.of(read_index(old), read_index(new))
    print_result(found.document(), "\n".join(_lines(found)))


def _lines(found: Difference) -> Iterator[str]:
    for release in (found.old.release, found.new.release):
        yield f"release {release.version}, serial {release.serial}, made {release.created}"
    for reference, change in found.changes.items():
        yield f"  {reference}: {change}"
    document = found.document()
    for name in ("shared", "added", "removed"):
        yield f"{name}: {count_text(document[name]['blobs'], 'blob')}, {size_text(document[name]['size'])}"
    if not document["same_root"]:
        yield "the roots differ, so a thin archive is not possible"
    else:
        yield f"a thin archive has {size_text(found.thin_size)}"
