"""SIGKILL at every step of a way back: all names are old or all are new, once engine and loader run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from loader.unlock.previous import pin_of
from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.support.inventory import Inventory
from tests.unlock.engines.conftest import MakeReturning
from tests.unlock.engines.returning import FORMER, LATTER, ONLY_OLD, Returning

pytest_plugins = ("tests.support.unlock_fixtures",)

# Every so manieth step is one at which the engine is killed as well, because it takes long to start.
EVERY = 6


@pytest.fixture(params=KINDS)
def returning(request: pytest.FixtureRequest, make_returning: MakeReturning) -> Iterator[Returning]:
    """A device that can go back, and whose engine may be killed."""
    with engine_of(request.param) as engine, make_returning(engine) as made:
        made.unlock(FORMER)
        made.unlock(LATTER)
        yield made


def test_a_kill_at_any_step_leaves_one_release(returning: Returning) -> None:
    """The loader is killed once the engine has made each change; the last ones come after the new names are proven."""
    returning.went_back()
    returning.wire.hold(None)
    returning.went_back()
    steps = returning.wire.changes
    ended = [killed_at(returning, step, Returning.kill_loader) for step in range(steps)]
    # The pins of the journal come before everything else, and go after everything else.
    assert ended == sorted(ended)
    assert set(ended) == {False, True}
    returning.require(LATTER, FORMER)


@pytest.mark.parametrize("kill", [Returning.kill_engine, Returning.cut_power], ids=["engine", "power"])
def test_a_kill_of_the_engine_leaves_one_release(returning: Returning, kill: Callable[[Returning], None]) -> None:
    returning.went_back()
    returning.wire.hold(None)
    returning.went_back()
    for step in range(0, returning.wire.changes, EVERY):
        killed_at(returning, step, kill)
    returning.require(LATTER, FORMER)


def killed_at(returning: Returning, step: int, kill: Callable[[Returning], None]) -> bool:
    """Kill in the middle of the way from the latter release to the former one, and return to the latter one.

    Return whether the device had gone back.
    """
    with returning.asked(step):
        kill(returning)
    returning.wait_until_settled()
    gone_back = pin_of(ONLY_OLD.reference) not in Inventory.of(returning.engine).names
    if gone_back:
        returning.require_names(FORMER, LATTER)
        returning.went_back()
    returning.require_names(LATTER, FORMER)
    return gone_back
