"""Fixtures of the tests of the commands that make archives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.handmade_image import FRAGMENT


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "fragment.key"
    path.write_bytes(FRAGMENT)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path for a packed archive, in an empty directory."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "images.enc"
