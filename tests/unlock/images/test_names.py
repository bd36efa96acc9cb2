"""Images with several names, which are sent once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loader.errors import EngineRejected
from tests.unlock.images.controlled_engine import (
    OLD,
    REFERENCES,
    ControlledEngine,
    as_loaded,
    handmade,
    head_with,
    load_counted,
    planned,
)


def test_an_image_that_is_loaded_under_its_first_name_gets_its_other_names() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"), handmade(1), replace(image, reference="third:1"))
    names = [reference for reference in (found.reference for found in head.images) if "app:1" not in reference]
    engine = ControlledEngine({names[2]: OLD})
    load_counted(engine, head)
    assert [layout.image.reference for layout in engine.delivery.taken] == [names[0], REFERENCES[1]]
    assert engine.done == [(f"name {names[0]}", names[1]), (f"name {names[0]}", names[2])]
    assert {engine.images[name] for name in names} == {as_loaded(image.image)}


def test_an_image_that_is_there_under_one_name_gets_the_others_without_a_load() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"))
    first, second = (found.reference for found in head.images)
    engine = ControlledEngine({second: as_loaded(image.image)})
    load_counted(engine, head, planned(head, {second}))
    assert engine.delivery.taken == []
    assert engine.done == [(f"name {second}", first)]


def test_an_engine_that_refuses_a_name_ends_the_run() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"))

    class Refusing(ControlledEngine):
        def name(self, present: str, reference: str) -> None:
            raise EngineRejected(f"{present} gets no name {reference}")

    engine = Refusing({})
    with pytest.raises(EngineRejected):
        load_counted(engine, head)


def test_an_image_whose_unpacked_layers_take_no_room_gets_its_names_too() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"))
    first, second = (found.reference for found in head.images)
    engine = ControlledEngine({first: replace(as_loaded(image.image), unpacked=False)})
    load_counted(engine, head, [])
    assert engine.done == [(f"name {first}", second)]
