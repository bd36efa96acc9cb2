"""Fixtures: the archive that most tests plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.handmade_image import seal
from tests.unlock.plan.planning import APP, DATABASE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive of `APP` and `DATABASE`."""
    return seal(tmp_path / "images.enc", [APP, DATABASE])
