"""A device without an archive is ready only if the engine can run the images that the loader remembers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.archive_head import Image, StoredHead
from loader.errors import ArchiveNotFound
from loader.settings import Settings
from loader.unlock.images import require_images_without_archive
from loader.unlock.remembered import remember
from tests.unlock.images.controlled_engine import HEAD, ControlledEngine, as_loaded


class Broken(ControlledEngine):
    """Cannot run any image."""

    def can_run(self, _: Image) -> bool:
        return False


def test_remembered_images_that_the_engine_cannot_run_are_not_there(tmp_path: Path) -> None:
    remember(tmp_path, StoredHead.of(HEAD))
    settings = replace(
        Settings.from_env({}), images_path=tmp_path / "images.enc", model_cache_dir=tmp_path, expected_images=()
    )
    images = {image.reference: as_loaded(image) for image in HEAD.images}
    assert require_images_without_archive(settings, ControlledEngine(images))
    with pytest.raises(ArchiveNotFound):
        require_images_without_archive(settings, Broken(images))
