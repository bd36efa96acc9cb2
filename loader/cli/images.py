"""`azaion-loader key` and `azaion-loader images`: the commands of the machine that ships images to devices."""

from __future__ import annotations

from pathlib import Path

import click

from loader import packing
from loader.cli.output import ProgressBar
from loader.crypto.archive import Manifest
from loader.docker_engine import DockerEngine

# Seconds that the Docker engine may be silent: it prepares the whole tar before it sends the first byte.
ENGINE_TIMEOUT = 1800

_file_to_read = click.Path(exists=True, dir_okay=False, path_type=Path)
_file_to_write = click.Path(dir_okay=False, path_type=Path)
_key_option = click.option("--key", "key_file", required=True, type=_file_to_read, help="File with the key fragment.")


@click.group()
def key() -> None:
    """Make key fragments, which only the resource API may keep."""


@key.command("new")
@click.option("-o", "--output", required=True, type=_file_to_write, help="File to make; it must not exist.")
def new_key(output: Path) -> None:
    """Make a random key fragment of 32 bytes that only its owner can read."""
    packing.new_fragment(output)
    click.echo(f"{output}: give it to the resource API, and keep it off every device")


@click.group()
def images() -> None:
    """Pack, show and verify encrypted archives of Docker images."""


@images.command("pack")
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@_key_option
@click.option("-o", "--output", required=True, type=_file_to_write, help="Archive to write; replaced if it exists.")
def pack_images(references: tuple[str, ...], key_file: Path, output: Path) -> None:
    """Save IMAGEs from the Docker engine into an encrypted archive.

    DOCKER_HOST names the engine; the default is the local one. An image without a tag means its `latest`. The images
    are encrypted as the engine sends them: no plaintext is written to a disk.
    """
    engine = DockerEngine(ENGINE_TIMEOUT)
    fragment = packing.read_fragment(key_file)
    found = packing.find_images(engine, list(references))
    # Each byte counts twice: once when the engine sends it, and once when it is encrypted into the archive.
    expected = 2 * sum(image.size for _, image in found)
    with ProgressBar("packing", expected) as bar:
        manifest = packing.pack(engine, found, fragment, output, bar.advance)
    _print_manifest(manifest)
    click.echo(f"{output}: {output.stat().st_size} bytes")


@images.command("show")
@click.argument("archive", type=_file_to_read)
def show_archive(archive: Path) -> None:
    """Print the manifest of ARCHIVE. Needs no key, so nothing of it is verified."""
    _print_manifest(packing.read_manifest(archive))


@images.command("verify")
@click.argument("archive", type=_file_to_read)
@_key_option
def verify_archive(archive: Path, key_file: Path) -> None:
    """Authenticate every byte of ARCHIVE, without writing anything."""
    fragment = packing.read_fragment(key_file)
    size = packing.read_manifest(archive).tar_size
    with ProgressBar("verifying", size) as bar:
        manifest = packing.verify(archive, fragment, bar.advance)
    _print_manifest(manifest)
    click.echo(f"{archive}: authentic, all {manifest.tar_size} bytes of it")


def _print_manifest(manifest: Manifest) -> None:
    click.echo(f"made {manifest.created}, a tar of {manifest.tar_size} bytes")
    for image in manifest.images:
        click.echo(f"  {image.reference}  {image.id}  {len(image.layers)} layers, created {image.created}")
