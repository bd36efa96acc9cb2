"""Back to the previous release and forward again, on each engine: names move together, and nothing else changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from loader.unlock.journal import PINS
from tests.conftest import TOLD
from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.support.inventory import Inventory, id_in
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


def test_an_engine_goes_back_and_forward(returning: Returning, record_property: Callable[[str, object], None]) -> None:
    returning.unlock(FORMER)
    returning.require(FORMER)
    returning.unlock(LATTER)
    returning.require(LATTER, FORMER, left=[ONLY_OLD])

    returning.device.api.forget_requests()
    started = time.monotonic()
    there = returning.went_back()
    record_property(TOLD, f"back on {returning.engine.name}: {time.monotonic() - started:.2f} s")
    returning.require(FORMER, LATTER)
    assert (there["present"]["serial"], there["previous"]["serial"]) == (1, 2)
    assert there["names"] == sorted((*NAMES, ONLY_NEW.reference))
    assert returning.operator.status().state == "idle"

    there = returning.went_back()
    returning.require(LATTER, FORMER)
    assert there["names"] == sorted((*NAMES, ONLY_NEW.reference, ONLY_OLD.reference))
    assert returning.operator.unlock() == READY
    assert returning.device.api.requests() == []

    returning.unlock(LAST)
    returning.require(LAST, LATTER, left=[ONLY_NEW])
    # The archive still has the last release: an unlock goes forward too, and keeps the release that was present.
    returning.went_back()
    assert returning.operator.unlock() == READY
    returning.require(LAST, LATTER, left=[ONLY_NEW])


def test_containers_keep_their_images_and_nothing_from_moving(returning: Returning) -> None:
    returning.unlock(FORMER)
    create = returning.engine.client.api.create_container
    made = [create(image.reference, "/pause")["Id"] for image in FORMER]
    returning.unlock(LATTER)
    made += [create(image.reference, "/pause")["Id"] for image in LATTER]
    containers = Inventory.of(returning.engine).containers
    assert containers.keys() == set(made)
    returning.foreign = replace(returning.foreign, containers=containers)
    for present, previous in ((FORMER, LATTER), (LATTER, FORMER)):
        returning.went_back()
        returning.require(present, previous)
    returning.unlock(LAST)
    after = Inventory.of(returning.engine)
    expected = returning.expected(LAST, LATTER, left=[ONLY_NEW]).names
    assert {name: after.names.get(name) for name in expected} == expected
    # The engine refuses to remove the last name of an image that a container uses, so that its pin stays.
    stay = set(after.names) - set(expected)
    assert {after.names[name] for name in stay} <= {id_in(returning.engine, ONLY_OLD.image)}
    assert all(name.startswith(PINS) for name in stay)
    assert after.containers == containers
