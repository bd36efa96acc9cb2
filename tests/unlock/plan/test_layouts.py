"""The layouts of a plan: which layers of which image are read, sent and unpacked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP, MAX_REFERENCES, StoredHead
from loader.docker_engine import EngineImage, Store
from loader.unlock.remembered import Pace, remember
from tests.support.archives import head_of
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.unlock.plan.planning import (
    AMD64,
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


def test_layers_of_an_image_that_is_there_are_not_sent_again(path: Path) -> None:
    made = plan(path, having(found(APP)))
    assert sent(made) == [(DATABASE.image.reference, ())]
    assert [base.reference for base in made.bases] == [APP.image.reference]


def test_a_layer_that_an_image_has_twice_is_sent_once(tmp_path: Path) -> None:
    twice = HandmadeImage("twice:1", (BASE, TOP, BASE))
    made = plan(seal(tmp_path / "images.enc", [twice]), EMPTY)
    assert made.work.to_unpack == sizes(BASE, TOP, BASE)
    assert made.images[0].size == sizes(BASE, TOP, BASE)
    assert sizes(BASE, TOP) < made.work.to_send < sizes(BASE, TOP, BASE)


@pytest.mark.parametrize(
    ("old", "needed"),
    [
        ((BASE,), (MIDDLE, TOP)),
        ((BASE, MIDDLE), (TOP,)),
        ((BASE, TOP, MIDDLE), (MIDDLE, TOP)),
        ((MIDDLE, TOP), (BASE, MIDDLE, TOP)),
        ((), (BASE, MIDDLE, TOP)),
    ],
)
def test_layers_at_the_bottom_of_an_image_under_the_name_now_are_neither_sent_nor_unpacked(
    path: Path, old: tuple[HandmadeLayer, ...], needed: tuple[HandmadeLayer, ...]
) -> None:
    made = plan(path, having(replacing_app(*old)))
    assert made.work.to_unpack == sizes(*needed)
    assert sent(made)[0] == (APP.image.reference, digests(*needed))


def replacing_app(*layers: HandmadeLayer) -> EngineImage:
    """Return another image than APP, with these layers."""
    return dataclasses.replace(found(APP, OTHER_ID), layers=digests(*layers))


@pytest.mark.parametrize("store", [Store.CLASSIC, Store.PODMAN])
def test_the_last_release_that_was_proven_counts_under_its_own_names(path: Path, tmp_path: Path, store: Store) -> None:
    former = HandmadeImage("app:1.3", (BASE, MIDDLE))
    description = dataclasses.replace(AMD64, store=store)
    engine = KnownEngine({former.image.reference: found(former)}, description)
    assert sent(plan(path, engine))[0] == (APP.image.reference, digests(BASE, MIDDLE, TOP))
    remember_images(tmp_path, former)
    made = plan(path, engine, models=tmp_path)
    assert sent(made)[0] == (APP.image.reference, digests(TOP))
    assert made.work.to_unpack == sizes(TOP)


@pytest.mark.parametrize(("store", "needed"), [(Store.CONTAINERD, (BASE, MIDDLE, TOP)), (Store.UNKNOWN, (TOP,))])
def test_a_store_that_may_be_of_containerd_has_only_what_was_proven_here(
    path: Path, tmp_path: Path, store: Store, needed: tuple[HandmadeLayer, ...]
) -> None:
    """The containerd store keeps images without some of their layers, or with other blobs for the same layers.

    It names no image by its configuration: `needed` is what a store needs that does.
    """
    former = HandmadeImage("app:1.3", (BASE, MIDDLE))
    remember_images(tmp_path, former)
    description = dataclasses.replace(AMD64, store=store)
    for image_id, needed_then in (
        (former.image.config, needed),
        (OTHER_ID, (BASE, MIDDLE, TOP)),
        (former.image.manifest, (TOP,)),
    ):
        engine = KnownEngine({former.image.reference: found(former, image_id)}, description)
        made = plan(path, engine, models=tmp_path)
        assert sent(made)[0] == (APP.image.reference, digests(*needed_then))
        assert made.work.to_unpack == sizes(TOP)
    lacking = dataclasses.replace(found(former, former.image.manifest), unpacked=False)
    made = plan(path, KnownEngine({former.image.reference: lacking}, description), models=tmp_path)
    assert made.bases == ()


def test_the_time_is_that_of_the_last_unlock_for_as_many_bytes(path: Path, tmp_path: Path) -> None:
    remember_images(tmp_path, DATABASE, pace=Pace("tar", 2.0, 0.001, 0.002))
    made = plan(path, EMPTY, models=tmp_path)
    assert made.seconds == pytest.approx(2 + 0.001 * made.work.to_read + 0.002 * made.work.to_send)
    assert plan(path, EMPTY, mode="stream", models=tmp_path).seconds is None
    assert plan(path, EMPTY).seconds is None
    assert plan(path, having(found(APP), found(DATABASE)), models=tmp_path).seconds is None


def remember_images(directory: Path, *images: HandmadeImage, pace: Pace | None = None) -> None:
    """Let a device remember an unlock of `images`."""
    remember(directory, StoredHead.of(head_of(seal(directory / "former.enc", images))), pace)


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


def test_an_image_takes_the_place_of_one_under_its_name_or_under_that_of_the_last_unlock(
    path: Path, tmp_path: Path
) -> None:
    former = HandmadeImage("app:1.3", (BASE, MIDDLE))
    remember_images(tmp_path, former)
    engines = {
        "nothing": EMPTY,
        "the same name": having(replacing_app(BASE)),
        "the same repository": KnownEngine({former.image.reference: found(former)}),
        "the image itself": having(found(APP)),
        "another repository": KnownEngine({DATABASE.image.reference: found(DATABASE)}),
    }
    updates = {what: plan(path, engine, models=tmp_path).images[0].update for what, engine in engines.items()}
    assert updates == dict.fromkeys(engines, False) | {"the same name": True, "the same repository": True}


def test_each_image_says_what_is_sent_for_it(path: Path) -> None:
    made = plan(path, having(replacing_app(BASE)))
    assert [image.to_send for image in made.images] == [layout.size for layout in made.layouts]
    made = plan(path, having(found(APP)))
    assert [image.to_send for image in made.images] == [0, made.work.to_send]
