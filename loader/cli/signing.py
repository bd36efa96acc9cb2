"""`azaion-loader sign`: the signing keys of publishers, in files on their own machines."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.archives import file_to_write
from loader.cli.key import write_secret
from loader.crypto.signatures import SigningKey
from loader.errors import ValidationFailed
from loader.files import storage
from loader.publisher_keys import PublisherKey

# More than any private key of Ed25519 in the format PEM.
MAX_KEY_FILE_SIZE = 4096


@click.group()
def sign() -> None:
    """Make signing keys, with which publishers sign releases."""


@sign.command("new")
@click.argument("keyfile", type=file_to_write)
def new_key(keyfile: Path) -> None:
    """Make a random Ed25519 key that only its owner can read: KEYFILE, which must not exist.

    Prints the line for the file PUBLISHER_KEYS of the devices, in which the publisher has the name of KEYFILE. KEYFILE
    has no passphrase: keep it off devices, and away from whoever has the key fragment.
    """
    key = SigningKey.new()
    write_secret(keyfile, key.to_pem())
    # A name in the line has no blank, and a line that starts with # would say nothing.
    name = "-".join(keyfile.stem.lstrip("#").split())
    click.echo(str(PublisherKey(name if name.isprintable() and name else "publisher", key.public)))


def read_signing_key(path: Path) -> SigningKey:
    """Read a signing key from a file. Raises ValidationFailed and StorageError."""
    with storage(path, 0), path.open("rb") as file:
        data = file.read(MAX_KEY_FILE_SIZE)
    try:
        return SigningKey.parse(data)
    except ValueError as exc:
        raise ValidationFailed(f"{path} is not a signing key: {exc}.") from exc
