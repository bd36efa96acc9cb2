"""Plans on a disk that has room for an update only without the previous release."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.crypto.archive_head import StoredHead
from loader.docker_engine import EngineDescription, EngineImage, Store
from loader.errors import DiskSpace
from loader.unlock.previous import pin_of
from loader.unlock.remembered import remember
from loader.unlock.room import require_room
from tests.support.archives import head_of
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.small_disk import fill, small_disk
from tests.unlock.plan.planning import APP, BASE, MIB, TOP, KnownEngine, found, plan

# Releases of one image; the middle one is present.
FIRST, SECOND = (dataclasses.replace(APP, layers=(BASE, HandmadeLayer(note * 1000, 60))) for note in (b"1", b"2"))
SPARE = sum(layer.described[1] for layer in FIRST.layers[1:])
NAME = APP.image.reference


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The disk of the engine."""
    with small_disk(tmp_path / "docker", 2 * MIB) as disk:
        yield disk


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The directory of a device that has unlocked FIRST and SECOND."""
    for image in (FIRST, SECOND):
        head = head_of(seal(tmp_path / "former.enc", [image]))
        remember(tmp_path / "models", StoredHead.of(head))
    return tmp_path / "models"


def engine_with(root: Path, *previous: HandmadeImage) -> KnownEngine:
    images: dict[str, EngineImage] = {NAME: found(SECOND)}
    images |= {pin_of(NAME): found(image) for image in previous}
    return KnownEngine(images, EngineDescription(root, Store.CLASSIC, ""))


@pytest.mark.parametrize(("missing", "fits"), [(0, True), (SPARE - 4096, True), (SPARE + 4096, False)])
def test_the_previous_release_counts_as_room(path: Path, root: Path, models: Path, missing: int, fits: bool) -> None:
    engine = engine_with(root, FIRST)
    (needed,) = [place.needed for place in plan(path, engine, "stream", models).places if root in place.paths]
    fill(root, leave=needed - missing + (4096 if missing == 0 else 0))
    made = plan(path, engine, "stream", models)
    assert (made.fits, made.drops_previous) == (fits, fits and missing > 0)
    said = [warning for warning in made.warnings if "There is room only without the images of release 1.4" in warning]
    assert len(said) == made.drops_previous
    if not fits:
        with pytest.raises(DiskSpace):
            require_room(made.places)


@pytest.mark.parametrize("previous", [(), (dataclasses.replace(APP, layers=(BASE, TOP)),)], ids=["gone", "another"])
def test_a_previous_release_that_is_not_there_is_no_room(
    path: Path, root: Path, models: Path, previous: tuple[HandmadeImage, ...]
) -> None:
    engine = engine_with(root, *previous)
    fill(root, leave=MIB // 8)
    made = plan(path, engine, "stream", models)
    assert (made.fits, made.drops_previous) == (False, False)


def test_the_tar_cannot_use_what_the_engine_frees_later(tmp_path: Path, models: Path) -> None:
    with small_disk(tmp_path / "disk", 3 * MIB) as disk:
        path = seal(disk / "images.enc", [APP])
        engine = engine_with(disk, FIRST)
        made = plan(path, engine, "tar", models)
        (place,) = [place for place in made.places if disk in place.paths]
        tar = place.tar
        fill(disk, leave=tar - 4096)
        made = plan(path, engine, "tar", models)
    assert tar > 0
    assert not made.fits
