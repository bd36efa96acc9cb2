"""Fixtures: a device with release 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.device import Device


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device on which release 1 is installed as a full archive."""
    made = Device(tmp_path)
    made.install(made.full(1))
    return made
