"""`azaion-loader images install`: a full or thin archive becomes the archive of this device."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.archives import file_to_read, warn_of_publishers
from loader.cli.output import ProgressBar, environment_settings
from loader.install import install as install_archive


@click.command()
@click.argument("archive", type=file_to_read)
def install(archive: Path) -> None:
    """Make ARCHIVE, full or thin, the archive of this device.

    Every byte is compared with its digest. Blobs that a thin ARCHIVE lacks come from the installed archive, which is
    then replaced by one rename; after an error it is as it was. The engine is not touched: unlock afterwards.

    The command needs the environment variables of the loader: IMAGES_PATH, API_VERSION and PUBLISHER_KEYS. ARCHIVE must
    be the release that API_VERSION names, and signed by a key in PUBLISHER_KEYS if that is set.
    """
    settings = environment_settings()
    warn_of_publishers(settings.publisher_keys)
    release = install_archive(archive, settings.images_path, settings.api_version, ProgressBar, settings.publisher_keys)
    click.echo(f"{settings.images_path}: release {release.version} is installed")
