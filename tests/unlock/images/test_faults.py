"""Faults of the engine during a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loader.docker_engine import EngineImage
from loader.errors import (
    ArchiveCorrupt,
    DiskSpace,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
)
from tests.unlock.images.controlled_engine import HEAD, OLD, REFERENCES, engine_with, load_counted, planned


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("gone")], ids=repr)
@pytest.mark.parametrize("position", range(3))
def test_after_a_stall_the_image_in_the_engine_decides(fault: LoaderError, position: int) -> None:
    outcomes = [None] * position + [fault]
    engine = engine_with(*outcomes)
    engine.loads_despite_fault = True
    load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)

    engine = engine_with(*outcomes)
    with pytest.raises(type(fault)) as raised:
        load_counted(engine)
    assert raised.value is fault
    assert engine.delivery.taken == planned(HEAD)[: position + 1]  # nothing is sent once more


def test_an_engine_that_stays_down_after_a_stall_keeps_the_first_error() -> None:
    fault = EngineStalled("silent")
    engine = engine_with(fault)
    engine.after_load = lambda: setattr(engine, "is_down", True)
    with pytest.raises(EngineStalled) as raised:
        load_counted(engine)
    assert raised.value is fault


@pytest.mark.parametrize(
    "fault",
    [
        EngineRejected("no"),
        DiskSpace("full"),
        ArchiveCorrupt("changed"),
        ZeroDivisionError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("position", [0, 2])
def test_any_other_failure_ends_the_run(fault: BaseException, position: int) -> None:
    # A refused layout without lower layers is sent once more with all.
    engine = engine_with(*[None] * position, fault, fault)
    with pytest.raises(type(fault)):
        load_counted(engine)


@pytest.mark.parametrize("wrong", [OLD, None], ids=["another image", "no image"])
def test_an_image_that_is_not_the_expected_one_ends_the_run_at_once_and_goes(wrong: EngineImage | None) -> None:
    engine = engine_with()
    image = HEAD.images[0]

    def load_wrongly() -> None:
        engine.images.pop(image.reference)
        if wrong is not None:
            engine.images[image.reference] = replace(wrong, layers=image.layers)

    engine.after_load = load_wrongly
    with pytest.raises(ImageMismatch, match=image.reference):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:1]
    assert engine.images == {}


def test_an_image_that_is_removed_during_the_run_is_noticed_at_its_end() -> None:
    engine = engine_with()

    def remove_first_image() -> None:
        if len(engine.delivery.taken) == 3:
            del engine.images[REFERENCES[0]]

    engine.after_load = remove_first_image
    with pytest.raises(ImageMismatch, match=REFERENCES[0]):
        load_counted(engine)
