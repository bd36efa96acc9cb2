"""The device of the tests, on each kind of engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_kinds import KINDS
from tests.unlock.old_versions.old_device import OldDevice


@pytest.fixture(params=KINDS)
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldDevice]:
    """A device in front of each kind of engine, which is empty."""
    engine = request.getfixturevalue(request.param)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    made = OldDevice(tmp_path, engine)
    yield made
    made.clean()
