"""The loads of a run: what is sent, sent again and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loader.docker_engine import NotPermitted, NotRunnable
from loader.errors import EngineRejected, ImageMismatch
from loader.oci import Layout
from loader.unlock.images import Loading
from tests.unlock.images.controlled_engine import (
    HEAD,
    REFERENCES,
    UNPACKED,
    engine_with,
    load_counted,
    planned,
)

# What containerd was seen to say (its issue 3787).
SNAPSHOT_LOST = (
    'failed to prepare extraction snapshot "extract-7 sha256:2b": parent snapshot sha256:4f does not exist: not found'
)


def whole(layout: Layout) -> Layout:
    return replace(layout, layers=layout.image.layers)


def test_a_load_counts_taken_and_unpacked_bytes() -> None:
    engine = engine_with()
    expected, before = [], 0
    for layout in planned(HEAD):
        expected += [before + 10, before + layout.size, before + layout.size + UNPACKED]
        before += 2 * layout.size
    assert load_counted(engine) == expected
    assert engine.delivery.taken == planned(HEAD)


def test_an_engine_that_unpacks_more_than_was_sent_counts_twice_at_most() -> None:
    """Its layers were sent without some that it unpacks too."""
    engine = engine_with()
    engine.unpacked = 1 << 40
    assert load_counted(engine)[-1] == 2 * sum(layout.size for layout in planned(HEAD))


def test_the_engine_works_on_an_image_once_it_has_all_of_it() -> None:
    engine = engine_with()
    loading = Loading(engine, HEAD, planned(HEAD)[:1], engine.delivery)
    seen: list[bool] = []
    with pytest.raises(ImageMismatch):  # the other images are not loaded
        loading.run(lambda _: seen.append(loading.is_committing))
    assert seen == [False, True, True]


def test_a_layout_without_lower_layers_that_is_refused_is_sent_with_all_layers() -> None:
    """The engine may have lost the layers that an earlier layout has brought."""
    engine = engine_with(None, EngineRejected("a layer is absent"))
    reached = load_counted(engine)
    first, second, third = planned(HEAD)
    assert second != whole(second)
    assert engine.delivery.taken == [first, second, whole(second), third]
    # The whole layout is counted after what the engine has taken and unpacked of the other one.
    assert reached == sorted(reached)
    assert reached[-1] == 2 * (first.size + whole(second).size) + second.size + UNPACKED + third.size + UNPACKED


def test_a_layout_without_lower_layers_that_makes_another_image_is_sent_with_all_layers() -> None:
    engine = engine_with()

    def loses_the_image() -> None:
        if len(engine.delivery.taken) == 2:
            del engine.images[REFERENCES[1]]

    engine.after_load = loses_the_image
    load_counted(engine)
    first, second, third = planned(HEAD)
    assert engine.delivery.taken == [first, second, whole(second), third]


def test_a_layout_is_sent_twice_at_most() -> None:
    engine = engine_with(None, EngineRejected("first"), EngineRejected("second"))
    with pytest.raises(EngineRejected, match="second"):
        load_counted(engine)
    assert len(engine.delivery.taken) == 3


def test_a_whole_layout_that_is_refused_is_not_sent_again() -> None:
    engine = engine_with(EngineRejected("no"))
    with pytest.raises(EngineRejected):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:1]


@pytest.mark.parametrize(
    "fault", [EngineRejected(SNAPSHOT_LOST), NotRunnable(SNAPSHOT_LOST, REFERENCES[0])], ids=["load", "proof"]
)
def test_a_whole_layout_is_sent_again_if_unpacked_layers_went_meanwhile(fault: EngineRejected) -> None:
    """containerd removes what a load that was killed has left, and may do so while the next load builds on it."""
    engine = engine_with(fault)
    load_counted(engine)
    first, *others = planned(HEAD)
    assert engine.delivery.taken == [first, first, *others]


def test_a_whole_layout_whose_unpacked_layers_go_each_time_is_sent_twice_at_most() -> None:
    engine = engine_with(EngineRejected(SNAPSHOT_LOST), EngineRejected(SNAPSHOT_LOST))
    with pytest.raises(EngineRejected, match="does not exist"):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:1] * 2


def test_a_layout_without_lower_layers_that_a_proxy_refuses_is_not_sent_again() -> None:
    engine = engine_with(None, NotPermitted("413"))
    with pytest.raises(NotPermitted):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:2]
