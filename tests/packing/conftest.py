"""Fixtures of the packing tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path for an archive, in an empty directory."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "images.enc"
