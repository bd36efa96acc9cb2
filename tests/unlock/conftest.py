"""Fixtures and checks that only the unlock tests use, besides those of `tests.support.unlock_fixtures`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.archives import FRAGMENT, Packed, pack_and_remove
from tests.support.engines import Engine
from tests.support.faulty_api import FaultyApi
from tests.support.unlocking import Status


@pytest.fixture(scope="session")
def packed_by_podman(podman_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The same as `packed`, made by podman."""
    return pack_and_remove(podman_engine, tmp_path_factory.mktemp("packed-by-podman"))


@pytest.fixture
def slow_api() -> Iterator[FaultyApi]:
    """An API that serves `FRAGMENT` and accepts every login. A test may add faults."""
    with FaultyApi() as api:
        api.fragment = FRAGMENT
        yield api


def is_sentence(text: str | None) -> bool:
    """Return whether `text` is one line that starts with a capital letter or a path, and ends with a full stop."""
    return text is not None and re.fullmatch(r"[A-Z/].*\.", text) is not None


def assert_failed(status: Status, code: str) -> None:
    """Require that the unlock has failed with `code` and an error for a person."""
    assert (status.state, status.code) == ("error", code)
    assert is_sentence(status.error)
