"""`azaion-loader sign`: the signing keys of publishers, in files on their own machines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from loader.cli.archives import file_to_write
from loader.cli.key import write_secret
from loader.cli.password import read_password
from loader.crypto.signatures import SigningKey
from loader.crypto.signing_key_file import BadSigningKey, read_signing_key, seal_signing_key
from loader.errors import ValidationFailed
from loader.files import storage
from loader.publisher_keys import PublisherKey


@click.group()
def sign() -> None:
    """Make signing keys, with which publishers sign releases."""


@sign.command("new")
@click.argument("keyfile", type=file_to_write)
@click.option("--passphrase", "sealed", is_flag=True, help="Ask for a passphrase, under which KEYFILE is encrypted.")
def new_key(keyfile: Path, sealed: bool) -> None:
    """Make a random Ed25519 key that only its owner can read: KEYFILE, which must not exist.

    Prints the line for the file PUBLISHER_KEYS of the devices, in which the publisher has the name of KEYFILE. Keep
    KEYFILE off devices, and away from everybody who has the key fragment.

    A passphrase comes from the terminal, or is one line of standard input.
    """
    key = SigningKey.new()
    content = seal_signing_key(key, read_password("passphrase", confirm=True)) if sealed else key.to_pem()
    write_secret(keyfile, content)
    # A name in the line has no blank, and a line that starts with # would say nothing.
    name = "-".join(keyfile.stem.lstrip("#").split())
    click.echo(str(PublisherKey(name if name.isprintable() and name else "publisher", key.public)))


def open_signing_key(path: Path, *, may_ask: bool = True) -> SigningKey:
    """Read a signing key from a file; a passphrase comes from the terminal or is the next line of standard input.

    Without `may_ask`, a key with a passphrase is refused. Raises ValidationFailed, StorageError and UsageError.
    """
    ask = partial(read_password, f"passphrase of {path}") if may_ask else None
    with storage(path, 0), path.open("rb") as file:
        try:
            return read_signing_key(file, ask)
        except BadSigningKey as exc:
            raise ValidationFailed(f"{path} {exc}.") from exc
