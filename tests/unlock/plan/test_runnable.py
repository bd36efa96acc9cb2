"""Which images are present once the engine has proven what it can run: an engine whose proofs a test chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.binary_split import open_archive
from loader.crypto.archive_head import Image
from loader.docker_engine import EngineImage
from loader.errors import EngineUnavailable
from loader.unlock.layers import layouts_of
from loader.unlock.plan import PlannedImage, look_up_images, runnable_images
from tests.unlock.plan.planning import APP, DATABASE, OTHER_ID, KnownEngine, found

STORED = found(APP, APP.image.manifest)


class ProvingEngine(KnownEngine):
    """Cannot run the images `broken`. `asked` are those that it had to prove."""

    def __init__(self, images: dict[str, EngineImage], *broken: Image) -> None:
        super().__init__(images)
        self.broken = broken
        self.asked: list[Image] = []

    def can_run(self, image: Image) -> bool:
        self.asked.append(image)
        return image not in self.broken


def proven(path: Path, engine: ProvingEngine) -> tuple[PlannedImage, ...]:
    with open_archive(path) as archive:
        return runnable_images(engine, look_up_images(engine, archive.head))


def having(app: EngineImage, *broken: Image) -> ProvingEngine:
    return ProvingEngine({APP.image.reference: app, DATABASE.image.reference: found(DATABASE)}, *broken)


def test_a_present_image_that_the_engine_cannot_run_is_loaded_again(path: Path) -> None:
    engine = having(STORED, APP.image)
    images = proven(path, engine)
    assert engine.asked == [APP.image]
    assert [(image.present, image.found is None) for image in images] == [(False, True), (True, False)]
    with open_archive(path) as archive:
        (layout,) = layouts_of(archive.head, {image.reference for image in images if image.present})
        assert layout.layers == APP.image.layers
    assert [image.present for image in proven(path, having(STORED))] == [True, True]


def test_an_image_whose_layers_take_no_room_is_present_once_it_is_proven(path: Path) -> None:
    empty = replace(STORED, unpacked=False)
    with open_archive(path) as archive:
        assert [image.present for image in look_up_images(having(empty), archive.head)] == [False, True]
    assert [image.present for image in proven(path, having(empty))] == [True, True]
    assert [image.present for image in proven(path, having(empty, APP.image))] == [False, True]


@pytest.mark.parametrize(
    ("app", "present"),
    [
        (found(APP, OTHER_ID), False),
        (replace(STORED, available=False), False),
        (replace(STORED, unpacked=True), True),
        (found(APP), True),
    ],
    ids=["another image", "not available", "unpacked", "classic store"],
)
def test_nothing_is_proven_where_the_engine_tells_enough(path: Path, app: EngineImage, present: bool) -> None:
    engine = having(app)
    assert [image.present for image in proven(path, engine)] == [present, True]
    assert [image.present for image in proven(path, ProvingEngine({}))] == [False, False]
    assert engine.asked == []


def test_an_image_that_will_be_undone_is_not_proven(path: Path) -> None:
    engine = having(replace(STORED, unpacked=False))
    with open_archive(path) as archive:
        looked_up = look_up_images(engine, archive.head, {(APP.image.reference, STORED.id)})
    assert [(image.present, image.found is None) for image in looked_up] == [(False, True), (True, False)]
    assert runnable_images(engine, looked_up) == looked_up
    assert engine.asked == []


def test_an_engine_that_goes_down_during_the_proof_is_no_broken_image(path: Path) -> None:
    class Vanishing(ProvingEngine):
        def can_run(self, _: Image) -> bool:
            raise EngineUnavailable("The Docker engine does not respond.")

    with pytest.raises(EngineUnavailable):
        proven(path, Vanishing({APP.image.reference: STORED}))
