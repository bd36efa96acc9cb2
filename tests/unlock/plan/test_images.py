"""The images of a plan: what the archive says about them, and whether the engine has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import ArchiveCorrupt, ArchiveNotFound
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark
from tests.support.thin_archives import index_of
from tests.unlock.plan.planning import APP, DATABASE, EMPTY, OTHER_ID, found, having, needs, plan, sizes


def test_the_plan_describes_each_image_of_the_archive(path: Path) -> None:
    made = plan(path, EMPTY)
    assert (made.archive, made.mode, made.release) == (path, "tar", KnownRelease.of(index_of(path).stored))
    for image, expected in zip(made.images, (APP, DATABASE), strict=True):
        assert image.reference == expected.image.reference
        assert (image.config, image.platform, image.created) == (
            expected.image.config,
            "linux/amd64",
            expected.image.created,
        )
        assert image.size == sizes(*expected.layers)


@pytest.mark.parametrize(
    "engine", [EMPTY, having(found(APP), found(DATABASE))], ids=["images are missing", "images are there"]
)
def test_a_plan_names_the_release_that_the_archive_is_older_than(
    path: Path, tmp_path: Path, engine: DockerEngine
) -> None:
    release = KnownRelease.of(index_of(path).stored)
    newest = dataclasses.replace(release, serial=release.serial + 1, head="0" * 64)
    assert plan(path, engine, models=tmp_path).older_than is None
    for mark, older_than in ((ReleaseMark(newest), newest), (ReleaseMark(newest, release.head), None)):
        (tmp_path / MARK_NAME).write_bytes(mark.to_bytes())
        made = plan(path, engine, models=tmp_path)
        assert made.older_than == older_than
        assert (made.failure.code if made.failure else None) == ("ROLLBACK" if older_than is not None else None)


@pytest.mark.parametrize(
    ("image_id", "present"),
    [(APP.image.config, True), (APP.image.manifest, True), (OTHER_ID, False), ("", False)],
    ids=["config", "manifest", "another", "none"],
)
def test_an_image_is_present_by_its_exact_id_and_not_by_its_layers(path: Path, image_id: str, present: bool) -> None:
    engine = having(found(APP, image_id or OTHER_ID), found(DATABASE))
    made = plan(path, engine)
    assert [image.present for image in made.images] == [present, True]
    assert (made.done, made.engine_answers) == (present, True)
    assert len(made.layouts) == (0 if present else 1)


def test_an_image_that_differs_only_in_its_settings_is_missing(path: Path) -> None:
    """Reproducible builds give both the same layers and the same time."""
    other = dataclasses.replace(APP, settings={"Env": ["MODE=old"]})
    assert other.image.layers == APP.image.layers
    made = plan(path, having(found(other), found(DATABASE)))
    assert [image.present for image in made.images] == [False, True]
    assert made.work.to_unpack == 0


def test_a_plan_that_is_done_has_no_work(path: Path) -> None:
    made = plan(path, having(found(APP), found(DATABASE)))
    assert made.done
    assert made.layouts == ()
    assert dataclasses.astuple(made.work) == (0, 0, 0, 0, 0)
    assert needs(made) == {(path.parent,): 0}


def test_an_archive_that_is_absent_or_damaged_has_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "images.enc"
    with pytest.raises(ArchiveNotFound):
        plan(path, EMPTY)
    path.write_bytes(b"AZIMAGE2")
    with pytest.raises(ArchiveCorrupt):
        plan(path, EMPTY)
