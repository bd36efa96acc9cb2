"""The layouts of a plan: which layers of which image are read, sent and unpacked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP, MAX_REFERENCES
from tests.support.archives import head_of
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.unlock.plan.planning import (
    APP,
    BASE,
    DATABASE,
    EMPTY,
    MIDDLE,
    OTHER_ID,
    TOP,
    KnownEngine,
    digests,
    found,
    having,
    plan,
    sent,
    sizes,
)


@pytest.mark.parametrize("codec", ["none", GZIP])
def test_work_counts_what_is_read_sent_and_unpacked(tmp_path: Path, codec: str) -> None:
    path = seal(tmp_path / "images.enc", [APP, DATABASE], codec=codec)
    made = plan(path, EMPTY)
    stored = sum(blob.stored_size for blob in head_of(path).blobs)
    assert made.work.to_read == stored
    layouts = [layout.size for layout in made.layouts]
    assert (made.work.to_send, made.work.largest) == (sum(layouts), max(layouts))
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)
    assert made.work.largest > sizes(BASE, MIDDLE, TOP)


def test_layers_that_an_earlier_layout_brings_are_not_sent_again(path: Path) -> None:
    assert sent(plan(path, EMPTY)) == [
        (APP.image.reference, digests(BASE, MIDDLE, TOP)),
        (DATABASE.image.reference, ()),
    ]


def test_the_order_of_the_archive_decides_which_layout_brings_a_layer(tmp_path: Path) -> None:
    made = plan(seal(tmp_path / "images.enc", [DATABASE, APP]), EMPTY)
    assert sent(made) == [(DATABASE.image.reference, digests(BASE)), (APP.image.reference, digests(MIDDLE, TOP))]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)


def test_only_layers_at_the_bottom_of_the_chain_are_left_out(tmp_path: Path) -> None:
    """Above another layer the same layer is another one for an engine, which then needs its bytes."""
    turned = HandmadeImage("turned:1", (MIDDLE, BASE, TOP))
    forked = HandmadeImage("forked:1", (BASE, TOP))
    made = plan(seal(tmp_path / "images.enc", [APP, turned, forked]), EMPTY)
    assert [layers for _, layers in sent(made)] == [
        digests(BASE, MIDDLE, TOP),
        digests(MIDDLE, BASE, TOP),
        digests(TOP),
    ]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP) + sizes(MIDDLE, BASE, TOP) + sizes(TOP)


def test_an_image_that_is_there_brings_no_layer(path: Path) -> None:
    """Only layers of this run are left out, because another client may remove an image at any time."""
    made = plan(path, having(found(APP)))
    assert sent(made) == [(DATABASE.image.reference, digests(BASE))]


def test_a_layer_that_an_image_has_twice_is_sent_once(tmp_path: Path) -> None:
    twice = HandmadeImage("twice:1", (BASE, TOP, BASE))
    made = plan(seal(tmp_path / "images.enc", [twice]), EMPTY)
    assert made.work.to_unpack == sizes(BASE, TOP, BASE)
    assert made.images[0].size == sizes(BASE, TOP, BASE)
    assert sizes(BASE, TOP) < made.work.to_send < sizes(BASE, TOP, BASE)


@pytest.mark.parametrize(
    ("old", "unpacked"),
    [
        ((BASE,), (MIDDLE, TOP)),
        ((BASE, MIDDLE), (TOP,)),
        ((BASE, TOP, MIDDLE), (MIDDLE, TOP)),
        ((MIDDLE, TOP), (BASE, MIDDLE, TOP)),
        ((), (BASE, MIDDLE, TOP)),
    ],
)
def test_layers_at_the_bottom_of_an_image_under_the_name_now_are_not_unpacked(
    path: Path, old: tuple[HandmadeLayer, ...], unpacked: tuple[HandmadeLayer, ...]
) -> None:
    old_app = dataclasses.replace(found(APP, OTHER_ID), layers=digests(*old))
    made = plan(path, having(old_app))
    assert made.work.to_unpack == sizes(*unpacked)
    # They are sent nevertheless.
    assert sent(made)[0] == (APP.image.reference, digests(BASE, MIDDLE, TOP))


def test_further_names_of_an_image_cost_nothing(tmp_path: Path) -> None:
    names = [dataclasses.replace(APP, reference=f"app:{number}") for number in range(MAX_REFERENCES)]
    path = seal(tmp_path / "images.enc", names)
    made = plan(path, EMPTY)
    assert len(made.images) == MAX_REFERENCES
    assert sent(made) == [(names[0].image.reference, digests(BASE, MIDDLE, TOP))]
    assert made.work.to_unpack == sizes(BASE, MIDDLE, TOP)

    # The engine has the image under its last name: the others are given without sending anything.
    made = plan(path, KnownEngine({names[-1].image.reference: found(APP)}))
    assert [image.present for image in made.images] == [False] * (MAX_REFERENCES - 1) + [True]
    assert (made.layouts, made.done, made.work.to_send) == ((), False, 0)


def test_hundreds_of_images_are_planned(tmp_path: Path) -> None:
    images = [HandmadeImage(f"app:{number}", (BASE,), {"Env": [f"N={number}"]}) for number in range(MAX_REFERENCES)]
    made = plan(seal(tmp_path / "images.enc", images), EMPTY)
    assert len(made.layouts) == MAX_REFERENCES
    assert made.work.to_unpack == sizes(BASE)
    assert [layout.layers for layout in made.layouts] == [digests(BASE)] + [()] * (MAX_REFERENCES - 1)
