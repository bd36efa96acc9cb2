"""An update for which the engine's disk has room only without the previous release."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from loader.unlock.previous import pin_of
from tests.support.archives import VERSION
from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.support.handmade_image import seal
from tests.support.inventory import Inventory
from tests.support.processes import poll
from tests.support.small_disk import fill, small_disk
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.conftest import MakeReturning
from tests.unlock.engines.releases import MIB
from tests.unlock.engines.returning import FORMER, LAST, LATTER, ONLY_NEW, ONLY_OLD, Returning

pytest_plugins = ("tests.support.unlock_fixtures",)

DISK_SIZE = 160 * MIB
PLAN_SECONDS = 20.0
DOCKERS = [kind for kind in KINDS if "podman" not in kind]


@pytest.mark.parametrize("kind", DOCKERS)
def test_an_update_takes_the_room_of_the_previous_release(kind: str, make_returning: MakeReturning) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="disk-") as short,  # engines take no long paths
        small_disk(Path(short, "disk"), DISK_SIZE) as disk,
        engine_of(kind, disk / "data") as engine,
        make_returning(engine) as returning,
    ):
        returning.unlock(FORMER)
        returning.unlock(LATTER)
        needed = needed_for_last(returning)
        filler = fill(disk, leave=needed - MIB)
        # A plan is shared for some seconds.
        poll(lambda: returning.operator.get("/unlock/plan")["warnings"], PLAN_SECONDS, "the plan warns")
        plan = returning.operator.get("/unlock/plan")
        assert plan["fits"] is True
        assert [f"release {VERSION} (serial 1)" in warning for warning in plan["warnings"]] == [True]

        # A head that nobody has authenticated removes nothing.
        assert_failed(returning.operator.unlock("wrong password"), "LOGIN_REJECTED")
        returning.require_names(LATTER, FORMER, left=[ONLY_OLD])

        assert returning.operator.unlock() == READY
        filler.unlink()
        returning.require(LAST, LATTER, left=[ONLY_OLD, ONLY_NEW])
        assert pin_of(ONLY_OLD.reference) not in Inventory.of(engine).names


def needed_for_last(returning: Returning) -> int:
    """Put the last release in place, and return the bytes that the engine needs for it."""
    returning.device.put(seal(returning.scratch / "last.enc", LAST, version=VERSION, serial=3))
    places = returning.operator.get("/unlock/plan")["places"]
    (needed,) = [place["needed"] for place in places if any("data" in path for path in place["paths"])]
    return int(needed)
