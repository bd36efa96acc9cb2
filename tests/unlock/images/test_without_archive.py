"""A device without an archive is ready only if the engine can run the images that the loader remembers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.archive_head import Image, StoredHead
from loader.errors import ArchiveNotFound, Busy
from loader.settings import Settings
from loader.unlock.images import require_images_without_archive
from loader.unlock.remembered import remember
from tests.unlock.images.controlled_engine import HEAD, ControlledEngine, as_loaded


class Broken(ControlledEngine):
    """Cannot run any image."""

    def can_run(self, _: Image) -> bool:
        return False


def remembering(directory: Path) -> Settings:
    """Return the settings of a device without an archive that remembers the images of HEAD."""
    remember(directory, StoredHead.of(HEAD))
    return replace(
        Settings.from_env({}), images_path=directory / "images.enc", model_cache_dir=directory, expected_images=()
    )


def test_remembered_images_that_the_engine_cannot_run_are_not_there(tmp_path: Path) -> None:
    settings = remembering(tmp_path)
    images = {image.reference: as_loaded(image) for image in HEAD.images}
    assert require_images_without_archive(settings, ControlledEngine(images))
    with pytest.raises(ArchiveNotFound):
        require_images_without_archive(settings, Broken(images))


def test_only_one_caller_at_a_time_has_the_images_proven(tmp_path: Path) -> None:
    settings = remembering(tmp_path)
    busy = []

    class AskedMeanwhile(ControlledEngine):
        """Gets a second request while it proves an image for the first one."""

        def can_run(self, _: Image) -> bool:
            with pytest.raises(Busy) as caught:
                require_images_without_archive(settings, Broken({}))
            busy.append(caught.value.retry_after)
            return True

    for _ in range(2):
        assert require_images_without_archive(settings, AskedMeanwhile({}))
    assert busy == [2] * 2 * len(HEAD.images)
