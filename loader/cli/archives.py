"""What the commands have in common that read and write archives: arguments, and how they tell what an archive is."""

from __future__ import annotations

import os
from pathlib import Path

import click

from loader.cli.output import count_text, json_wanted, size_text
from loader.crypto.archive_head import Head, Image
from loader.publisher_keys import PublisherKeys
from loader.settings import variables

file_to_read = click.Path(exists=True, dir_okay=False, path_type=Path)
file_to_write = click.Path(dir_okay=False, path_type=Path)
key_option = click.option("--key", "key_file", required=True, type=file_to_read, help="File with the key fragment.")


def environment_publishers() -> PublisherKeys | None:
    """Return the keys that PUBLISHER_KEYS names, whatever else the environment holds. Raises UsageError."""
    variable = variables()["publisher_keys"]
    try:
        trusted: PublisherKeys | None = variable.parse(os.environ.get(variable.name, variable.default))
    except ValueError as exc:
        raise click.UsageError(f"bad configuration: {variable.name} {exc}") from exc
    warn_of_publishers(trusted)
    return trusted


def warn_of_publishers(trusted: PublisherKeys | None) -> None:
    """Warn of keys that have expired."""
    if trusted is not None and not json_wanted():
        for text in trusted.warnings():
            click.echo(f"warning: {text}", err=True)


def written_text(path: Path) -> str:
    """Return the line about a file that was written."""
    return f"{path}: {size_text(path.stat().st_size)}"


def head_text(head: Head) -> str:
    """Return the lines about a release and its images."""
    lines = [f"release {head.release.version}, serial {head.release.serial}, made {head.release.created}"]
    lines += [f"  {_image_text(head, image)}" for image in head.images]
    return "\n".join(lines)


def _image_text(head: Head, image: Image) -> str:
    size, layers = size_text(head.unpacked_size(image)), count_text(len(image.layers), "layer")
    return f"{image.reference}  {image.platform}  {image.config}  {layers}, {size}"
