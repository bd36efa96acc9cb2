"""Back to the previous release and forward again, on each engine: names move together, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.support.unlocking import READY
from tests.unlock.engines.conftest import MakeReturning
from tests.unlock.engines.releases import NAMES
from tests.unlock.engines.returning import FORMER, LAST, LATTER, ONLY_NEW, ONLY_OLD, Returning

pytest_plugins = ("tests.support.unlock_fixtures",)


@pytest.fixture(params=KINDS)
def returning(request: pytest.FixtureRequest, make_returning: MakeReturning) -> Iterator[Returning]:
    """A device without a release."""
    with engine_of(request.param) as engine, make_returning(engine) as made:
        yield made


def test_an_engine_goes_back_and_forward(returning: Returning) -> None:
    returning.unlock(FORMER)
    returning.require(FORMER)
    returning.unlock(LATTER)
    returning.require(LATTER, FORMER, left=[ONLY_OLD])

    returning.device.api.forget_requests()
    there = returning.went_back()
    returning.require(FORMER, LATTER)
    assert (there["present"]["serial"], there["previous"]["serial"]) == (1, 2)
    assert there["names"] == sorted((*NAMES, ONLY_NEW.reference))
    assert returning.operator.status().state == "idle"
    assert returning.device.api.requests() == []

    returning.went_back()
    returning.require(LATTER, FORMER)
    assert returning.operator.unlock() == READY
    assert returning.device.api.requests() == []

    with returning.asked(step=9):
        returning.kill_loader()
    returning.wait_until_settled()
    returning.require(LATTER, FORMER)
    with returning.asked(step=9):
        returning.cut_power()
    returning.wait_until_settled()
    returning.require(LATTER, FORMER)

    returning.unlock(LAST)
    returning.require(LAST, LATTER, left=[ONLY_NEW])
