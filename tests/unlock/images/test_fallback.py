"""Whole layouts in the place of those without lower layers: after a refusal, and when the lower layers have gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from loader.binary_split import Archive, open_archive
from loader.docker_engine import EngineImage
from loader.errors import ArchiveCorrupt, EngineRejected
from loader.oci import Layout
from loader.unlock.delivery import Delivery, StreamDelivery, TarDelivery
from loader.unlock.images import Loading
from loader.unlock.layers import Base, layouts_of, whole
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.unlock.images.controlled_engine import (
    HEAD,
    UNPACKED,
    ControlledEngine,
    Pieces,
    engine_with,
    load_counted,
    planned,
)

LOWER = [HandmadeLayer(bytes([number]) * 4096, 256, name=f"{number}.bin") for number in range(2)]
IMAGES = [HandmadeImage(f"app{number}:2", (layer, HandmadeLayer(b"new"))) for number, layer in enumerate(LOWER)]
# The engine had them when the run was planned, and has lost them since.
BASES = [Base(f"app{number}:1", EngineImage("old", (layer.described[0],), 1)) for number, layer in enumerate(LOWER)]


class Recorded(Pieces):
    """A real delivery, of which `taken` lists the layouts."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__()
        self._delivery = delivery

    def authenticate(self, layouts: Iterable[Layout]) -> None:
        self._delivery.authenticate(layouts)

    def pieces(self, layout: Layout) -> Iterator[bytes | memoryview]:  # type: ignore[override]
        self.taken.append(layout)
        yield from self._delivery.pieces(layout)


def partial(archive: Archive) -> list[Layout]:
    """Return the layouts of a run on an engine that has `BASES`."""
    layouts = list(layouts_of(archive.head, set(), BASES))
    assert all(layout != whole(layout) for layout in layouts)
    return layouts


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(seal(tmp_path / "images.enc", IMAGES)) as opened:
        yield opened


@pytest.fixture(params=["stream", "tar"])
def delivery(request: pytest.FixtureRequest, archive: Archive, tmp_path: Path) -> Iterator[Recorded]:
    """The delivery of each mode in turn, prepared for the partial layouts."""
    made = (
        StreamDelivery(archive, partial(archive), lambda: None)
        if request.param == "stream"
        else TarDelivery(archive, partial(archive), tmp_path / "images.tar", lambda: None)
    )
    made.prepare(FRAGMENT, lambda _: None)
    yield Recorded(made)
    made.close()


def damage_last_image(archive: Archive) -> None:
    """Change a bit of the lower layer of the last image, which no partial layout holds."""
    flip_in_file(archive.path, archive.index.offsets[archive.head.images[-1].layers[0]] + 5000)


def engine_of(delivery: Recorded, *outcomes: BaseException | None) -> ControlledEngine:
    engine = ControlledEngine({}, *outcomes)
    engine.delivery = delivery
    return engine


def test_layers_that_have_gone_are_sent_with_all_images(archive: Archive, delivery: Recorded) -> None:
    layouts = partial(archive)
    Loading(engine_of(delivery), archive.head, layouts, delivery, BASES).run(lambda _: None)
    assert delivery.taken == list(map(whole, layouts))


def test_the_engine_gets_no_byte_if_a_layer_that_has_gone_is_damaged(archive: Archive, delivery: Recorded) -> None:
    damage_last_image(archive)
    with pytest.raises(ArchiveCorrupt):
        Loading(engine_of(delivery), archive.head, partial(archive), delivery, BASES).run(lambda _: None)
    assert delivery.taken == []


def test_a_refused_image_is_not_sent_again_if_a_later_one_is_damaged(archive: Archive, delivery: Recorded) -> None:
    """The engine may lack the layers of that one too."""
    damage_last_image(archive)
    engine = engine_of(delivery, EngineRejected("a layer is absent"))
    with pytest.raises(ArchiveCorrupt):
        Loading(engine, archive.head, partial(archive), delivery).run(lambda _: None)
    assert delivery.taken == partial(archive)[:1]


def test_each_refused_layout_is_authenticated_with_those_that_still_come() -> None:
    engine = engine_with(None, EngineRejected("a layer is absent"))
    load_counted(engine)
    _, second, third = planned(HEAD)
    assert engine.delivery.authenticated == [whole(second), whole(third)]
    assert engine.delivery.taken[2:] == [whole(second), third]


def totals(engine: ControlledEngine, layouts: list[Layout], bases: Sequence[Base] = ()) -> tuple[Loading, list[int]]:
    """Run a load whose every count must be more than the one before, and below the total of that moment."""
    totals: list[int] = []
    loading = Loading(engine, HEAD, layouts, engine.delivery, bases)
    last = 0

    def reach(done: int) -> None:
        nonlocal last
        assert last < done <= loading.total
        last = done
        totals.append(loading.total)

    loading.run(reach)
    return loading, totals


def test_a_load_without_a_fallback_counts_what_was_planned() -> None:
    loading, seen = totals(engine_with(), planned(HEAD))
    assert set(seen) == {2 * sum(layout.size for layout in planned(HEAD))}
    assert not loading.fell_back


def test_a_whole_layout_is_counted_on_top_of_the_refused_one() -> None:
    loading, seen = totals(engine_with(None, EngineRejected("a layer is absent")), planned(HEAD))
    first, second, third = planned(HEAD)
    refused = second.size + UNPACKED
    assert seen[0] == 2 * (first.size + second.size + third.size)
    assert seen[-1] == 2 * (first.size + whole(second).size + third.size) + refused
    assert loading.fell_back


def test_layers_that_have_gone_are_counted_from_the_beginning() -> None:
    loading, seen = totals(engine_with(), planned(HEAD), BASES)
    assert set(seen) == {2 * sum(whole(layout).size for layout in planned(HEAD))}
    assert loading.fell_back
