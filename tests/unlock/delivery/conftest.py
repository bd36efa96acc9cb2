"""Fixtures: an open archive of two images, and the delivery of its layouts in each mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.crypto.archive_head import PLAIN
from loader.unlock.delivery import StreamDelivery
from tests.support.handmade_image import seal
from tests.unlock.delivery.deliveries import IMAGES, Make, by_file, layouts


@pytest.fixture(params=[PLAIN])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An open archive of `IMAGES`, sealed with the codec of the parameter."""
    with open_archive(seal(tmp_path / "images.enc", IMAGES, codec=request.param)) as opened:
        yield opened


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """The path of the tar in mode `tar`, beside the archive."""
    return tmp_path / "images.tar"


@pytest.fixture(params=["tar", "stream"])
def make(request: pytest.FixtureRequest, tar: Path) -> Make:
    """Make the delivery of each mode in turn."""
    if request.param == "stream":
        return lambda archive, checkpoint: StreamDelivery(archive, layouts(archive), checkpoint)
    return lambda archive, checkpoint: by_file(archive, tar, checkpoint)
