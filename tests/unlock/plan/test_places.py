"""The room that an unlock needs in each place, and disks that are read-only."""

from __future__ import annotations

from pathlib import Path

from loader.docker_engine import EngineDescription, Store
from loader.unlock.room import JOURNAL_SIZE
from tests.support.handmade_image import seal
from tests.support.small_disk import make_read_only, small_disk
from tests.unlock.plan.planning import APP, EMPTY, MIB, KnownEngine, needs, plan


def test_the_engine_and_the_tars_need_room(path: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "docker", MIB) as root:
        made = plan(path, KnownEngine({}, EngineDescription(root, Store.CLASSIC, "")))
        engine = made.work.largest + made.work.to_unpack
        assert needs(made) == {(path.parent,): made.work.to_send + JOURNAL_SIZE, (root,): engine}
        assert needs(plan(path, KnownEngine({}, EngineDescription(root, Store.CLASSIC, "")), "stream")) == {
            (root,): engine,
            (path.parent,): JOURNAL_SIZE,
        }
        assert made.fits


def test_a_read_only_disk_is_found(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 * MIB) as disk:
        path = seal(disk / "images.enc", [APP])
        assert plan(path, EMPTY).fits
        make_read_only(disk)
        made = plan(path, EMPTY)
    assert [place.writable for place in made.places] == [False]
    assert not made.fits
