"""The manifest of the last unlock, kept for the day when the archive is gone."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from loader.crypto.archive import Manifest, ManifestImage
from loader.errors import CorruptCiphertext
from loader.files import make_private_directory, remove_unfinished, write_whole

log = logging.getLogger(__name__)

FILE_NAME = "unlocked-manifest.json"


def remember_manifest(directory: Path, manifest: Manifest) -> None:
    """Keep `manifest` in `directory`. Never raises: to fail here must not undo an unlock."""
    path = directory / FILE_NAME
    try:
        make_private_directory(directory)
        write_whole(path, json.dumps(manifest.document()).encode())
    except OSError as exc:
        log.warning("the manifest could not be remembered at %s: %s", path, exc.strerror)


def remove_half_remembered(directory: Path) -> None:
    """Remove what a process that was killed while it wrote the manifest has left. Never raises."""
    remove_unfinished(directory / FILE_NAME)


def remembered_images(directory: Path) -> tuple[ManifestImage, ...]:
    """The images of the manifest kept in `directory`; none if there is none, or none that can be used."""
    path = directory / FILE_NAME
    try:
        document = json.loads(path.read_bytes())
        return Manifest.parse(document if isinstance(document, dict) else {}).images
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
        log.warning("the remembered manifest %s cannot be used: %s", path, exc)
        return ()
