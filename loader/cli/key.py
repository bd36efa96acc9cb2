"""`azaion-loader key`: key fragments in files, on the machine that ships images to devices."""

from __future__ import annotations

import os
from pathlib import Path

import click

from loader.crypto.archive_seals import FRAGMENT_MAX_SIZE, FRAGMENT_MIN_SIZE
from loader.errors import KeyMismatch
from loader.files import storage, sync_directory


@click.group()
def key() -> None:
    """Make key fragments, which only the resource API may keep."""


@key.command("new")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to make; it must not exist.",
)
def new_key(output: Path) -> None:
    """Make a random key fragment of 32 bytes that only its owner can read."""
    new_fragment(output)
    click.echo(f"{output}: give it to the resource API, and keep it off every device")


def read_fragment(path: Path) -> bytes:
    """Read a key fragment from a file. Raises KeyMismatch if its size is wrong, and StorageError."""
    with storage(path, 0), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        fragment = file.read(FRAGMENT_MAX_SIZE + 1)
    if not FRAGMENT_MIN_SIZE <= len(fragment) <= FRAGMENT_MAX_SIZE:
        raise KeyMismatch(
            f"{path} is not a key fragment: "
            f"it has {max(size, len(fragment))} bytes, not {FRAGMENT_MIN_SIZE} to {FRAGMENT_MAX_SIZE}."
        )
    return fragment


def new_fragment(path: Path) -> None:
    """Write a random key fragment to a new file, as `write_secret` does."""
    write_secret(path, os.urandom(FRAGMENT_MIN_SIZE))


def write_secret(path: Path, secret: bytes) -> None:
    """Write `secret` to a new file of mode 0600. Raises StorageError, also if the file exists."""
    with storage(path, len(secret)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
                file.flush()
                # Without its fragment an archive is lost, so what was reported must outlive a power cut.
                os.fsync(file.fileno())
            sync_directory(path.parent)
        except OSError:
            path.unlink()
            raise
