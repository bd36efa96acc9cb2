"""`python -m loader key` and `images`: what the machine that ships makes and checks."""

from __future__ import annotations

from pathlib import Path

import click

from loader import packing
from loader.cli.output import Progress
from loader.crypto.archive import Manifest
from loader.docker_engine import DockerEngine

# Silence that a packing machine's engine is allowed: it prepares the whole tar before it sends the first byte.
ENGINE_TIMEOUT = 1800

_file_to_read = click.Path(exists=True, dir_okay=False, path_type=Path)
_file_to_write = click.Path(dir_okay=False, path_type=Path)
_key_option = click.option("--key", "key_file", required=True, type=_file_to_read, help="File with the key fragment.")


@click.group()
def key() -> None:
    """Key fragments, which exist on the resource API only."""


@key.command("new")
@click.option("-o", "--output", required=True, type=_file_to_write, help="File to make; it must not exist.")
def key_new(output: Path) -> None:
    """Make a random key fragment of 32 bytes, readable by its owner only."""
    packing.new_fragment(output)
    click.echo(f"{output}: give it to the resource API, and keep it off every device")


@click.group()
def images() -> None:
    """Encrypted archives of Docker images."""


@images.command("pack")
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@_key_option
@click.option("-o", "--output", required=True, type=_file_to_write, help="Archive to write; replaced if it exists.")
def images_pack(references: tuple[str, ...], key_file: Path, output: Path) -> None:
    """Save IMAGEs from the Docker engine into an encrypted archive.

    The engine is the one that DOCKER_HOST names, else the local one. An image without a tag means its `latest`. The
    images pass through encryption on their way: no plaintext is written.
    """
    engine = DockerEngine(ENGINE_TIMEOUT)
    fragment = packing.read_fragment(key_file)
    found = packing.find_images(engine, list(references))
    # Each byte passes twice, once from the engine and once into the archive.
    expected = 2 * sum(image.size for _, image in found)
    with Progress("packing", expected) as progress:
        manifest = packing.pack(engine, found, fragment, output, progress.advance)
    _show(manifest)
    click.echo(f"{output}: {output.stat().st_size} bytes")


@images.command("show")
@click.argument("archive", type=_file_to_read)
def images_show(archive: Path) -> None:
    """Print what ARCHIVE says of itself. Needs no key, so nothing of it is proven."""
    _show(packing.read_manifest(archive))


@images.command("verify")
@click.argument("archive", type=_file_to_read)
@_key_option
def images_verify(archive: Path, key_file: Path) -> None:
    """Authenticate every byte of ARCHIVE, without writing anything."""
    fragment = packing.read_fragment(key_file)
    size = packing.read_manifest(archive).tar_size
    with Progress("verifying", size) as progress:
        manifest = packing.verify(archive, fragment, progress.advance)
    _show(manifest)
    click.echo(f"{archive}: authentic, all {manifest.tar_size} bytes of it")


def _show(manifest: Manifest) -> None:
    click.echo(f"made {manifest.created}, a tar of {manifest.tar_size} bytes")
    for image in manifest.images:
        click.echo(f"  {image.reference}  {image.id}  {len(image.layers)} layers, created {image.created}")
