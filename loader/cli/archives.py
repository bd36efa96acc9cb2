"""What the commands have in common that read and write archives: arguments, and how they tell what an archive is."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.output import count_text, size_text
from loader.crypto.archive_head import Head, Image

file_to_read = click.Path(exists=True, dir_okay=False, path_type=Path)
file_to_write = click.Path(dir_okay=False, path_type=Path)
key_option = click.option("--key", "key_file", required=True, type=file_to_read, help="File with the key fragment.")


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
