"""Fixtures: an archive of two images, as a file and opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from tests.binary_split.images import IMAGES
from tests.support.handmade_image import seal


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of `IMAGES` that no test changes."""
    return seal(tmp_path_factory.mktemp("sealed") / "images.enc", IMAGES)


@pytest.fixture
def path(tmp_path: Path, sealed: Path) -> Path:
    """A copy of the archive, which the test may change."""
    return shutil.copyfile(sealed, tmp_path / "images.enc")


@pytest.fixture
def opened(path: Path) -> Iterator[Archive]:
    """The opened archive at `path`."""
    with open_archive(path) as archive:
        yield archive
