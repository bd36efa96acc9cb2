"""`azaion-loader images show` and `verify`: what an archive tells without a key, and all of its bytes."""

from __future__ import annotations

from pathlib import Path

import click

from loader.binary_split import Archive, open_archive
from loader.blob_directory import blob_directory
from loader.cli.archives import environment_publishers, file_to_read, head_text
from loader.cli.key import read_fragment
from loader.cli.output import ProgressBar, count_text, json_option, print_result, size_text
from loader.packing.verify import ShownSignature, document, shown_signatures
from loader.packing.verify import verify as verify_archive
from loader.publisher_keys import PublisherKeys


@click.command()
@click.argument("archive", type=file_to_read)
@json_option
def show(archive: Path) -> None:
    """Print what ARCHIVE holds. Needs no key, so only its signatures are verified.

    Publishers have the names that the file PUBLISHER_KEYS gives them; a key that is not there is printed itself.
    """
    trusted = environment_publishers()
    with open_archive(archive) as opened:
        print_result(document(opened, trusted), _archive_text(opened, trusted))


@click.command()
@click.argument("archive", type=file_to_read)
@click.option("--key", "key_file", type=file_to_read, help="File with the key fragment.")
def verify(archive: Path, key_file: Path | None) -> None:
    """Compare every byte of ARCHIVE, and of the blobs beside it, with its head.

    Nothing is written. Without --key this finds damage and tells nothing about the author. With --key everything is
    authenticated, and the content of each blob is compared with its digest. If the environment variable PUBLISHER_KEYS
    is set, one of its keys must have signed ARCHIVE.
    """
    trusted = environment_publishers()
    verify_archive(archive, None if key_file is None else read_fragment(key_file), ProgressBar, trusted)
    with open_archive(archive) as opened:
        click.echo(_archive_text(opened, trusted))
    if key_file is None:
        click.echo(f"{archive}: undamaged. This does not prove who made it; use --key for that.")
    else:
        click.echo(f"{archive}: authentic and undamaged")


def _archive_text(archive: Archive, trusted: PublisherKeys | None) -> str:
    index = archive.index
    blobs = count_text(len(index.head.blobs), "blob")
    lines = [
        head_text(index.head),
        f"{archive.path}: {blobs}, {size_text(index.size)}, key check {index.seals.check}, root {index.head.root_id}",
    ]
    lines += [_signature_text(one) for one in shown_signatures(index, trusted)]
    if beside := archive.beside:
        size = size_text(sum(index.head.blob[digest].stored_size for digest in beside))
        lines.append(f"{blob_directory(archive.path)}: {count_text(len(beside), 'blob')} of {size}")
    if absent := archive.absent:
        size = size_text(sum(blob.stored_size for blob in absent))
        lines.append(f"incomplete: it lacks {count_text(len(absent), 'blob')} of {size}")
        lines += [f"  {blob.digest}" for blob in absent]
    return "\n".join(lines)


def _signature_text(shown: ShownSignature) -> str:
    signer = shown.name or f"the key {shown.key}"
    return f"signed by {signer}" if shown.valid else f"an invalid signature in the name of {signer}"
