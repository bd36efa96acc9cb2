"""Fixtures and checks that only the unlock tests use, besides those of `tests.support.unlock_fixtures`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.engines import Engine
from tests.support.faulty_api import FaultyApi
from tests.support.handmade_image import FRAGMENT
from tests.support.publishers import write_publishers
from tests.support.unlocking import Status
from tests.unlock.watched_device import MODES, WatchedDevice, watched_device


@pytest.fixture
def slow_api() -> Iterator[FaultyApi]:
    """An API that serves `FRAGMENT` and accepts every login. A test may add faults."""
    with FaultyApi() as api:
        api.fragment = FRAGMENT
        yield api


@pytest.fixture(scope="module", params=MODES)
def watched(
    request: pytest.FixtureRequest, docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedDevice]:
    """A device in each mode, which all tests of a module share."""
    with watched_device(tmp_path_factory.mktemp(request.param), docker_engine, request.param) as device:
        yield device


@pytest.fixture(scope="module", params=MODES)
def careful(
    request: pytest.FixtureRequest, docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedDevice]:
    """A device in each mode that asks for a signature of Anna or Ben, which all tests of a module share."""
    directory = tmp_path_factory.mktemp(request.param)
    publishers = write_publishers(directory / "publishers")
    with watched_device(directory, docker_engine, request.param, PUBLISHER_KEYS=str(publishers)) as device:
        yield device


def is_sentence(text: str | None) -> bool:
    """Return whether `text` is one line that starts with a capital letter or a path, and ends with a full stop."""
    return text is not None and re.fullmatch(r"[A-Z/].*\.", text) is not None


def assert_failed(status: Status, code: str) -> None:
    """Require that the unlock has failed with `code` and an error for a person."""
    assert (status.state, status.code) == ("error", code)
    assert is_sentence(status.error)
