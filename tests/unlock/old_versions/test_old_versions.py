"""What is old in each kind of engine, and what goes."""

from __future__ import annotations

from dataclasses import replace

from tests.support.archives import PREFIX
from tests.support.handmade_image import HandmadeImage
from tests.support.inventory import Inventory, with_algorithm
from tests.unlock.old_versions.old_device import FOREIGN, NEXT, OLD, OLDER, PIN, SIZE, UNLOCKED, OldDevice


def references(*images: HandmadeImage) -> list[str]:
    return [image.reference for image in images]


def test_old_versions_are_found_and_removed_and_nothing_else(device: OldDevice) -> None:
    device.put(UNLOCKED, NEXT, OLD, OLDER, *FOREIGN)
    before = Inventory.of(device.engine)
    old = device.find()
    assert [name.reference for name in old.names] == references(OLDER, OLD)
    assert old.names == old.removable
    assert [name.image.id for name in old.names] == [before.names[image.reference] for image in (OLDER, OLD)]
    assert old.freed({}) == sum(name.image.size for name in old.names) >= 2 * SIZE
    assert old.kept == tuple(references(UNLOCKED, NEXT))
    assert Inventory.of(device.engine) == before

    assert device.remove(old) == {}
    after = Inventory.of(device.engine)
    assert after.names == {name: id_ for name, id_ in before.names.items() if name not in references(OLD, OLDER)}
    assert after.images == set(after.names.values())
    assert device.find().names == ()


def test_what_a_container_uses_stays(device: OldDevice) -> None:
    device.put(UNLOCKED, OLD, OLDER)
    container = device.use(OLDER)
    before = Inventory.of(device.engine)
    old = device.find()
    assert [(name.reference, name.is_used) for name in old.names] == [(OLDER.reference, True), (OLD.reference, False)]
    assert old.freed({}) == old.names[1].image.size
    assert device.remove(old) == {}
    after = Inventory.of(device.engine)
    assert after.names.keys() == set(references(UNLOCKED, OLDER))
    assert (after.containers, container in after.containers) == (before.containers, True)


def test_an_image_counts_once_and_not_if_it_has_a_name_that_stays(device: OldDevice) -> None:
    mine, further = f"docker.io/{PREFIX}mine:1", f"{OLD.reference}-further"
    device.put(UNLOCKED, OLD, OLDER)
    device.name(OLDER, mine)
    device.name(OLD, further)
    old = device.find()
    assert [name.reference for name in old.names] == [OLDER.reference, OLD.reference, further]
    assert old.freed({}) == old.names[1].image.size
    assert device.remove(old) == {}
    assert device.names() == {UNLOCKED.reference, mine}


def test_a_leftover_pin_goes_and_its_image_too_if_that_has_no_other_name(device: OldDevice) -> None:
    device.put(UNLOCKED, OLD)
    device.name(UNLOCKED, PIN)
    device.name(OLD, f"{PIN[:-1]}b")
    device.engine.client.api.remove_image(OLD.reference)
    device.use(UNLOCKED)
    old = device.find()
    assert [name.reference for name in old.removable] == [PIN, f"{PIN[:-1]}b"]
    assert old.freed({}) == old.names[1].image.size
    assert device.remove(old) == {}
    after = Inventory.of(device.engine)
    assert after.names.keys() == {UNLOCKED.reference}
    assert after.images == set(after.names.values())


def test_the_pin_of_an_image_that_a_container_uses_stays_if_it_is_the_last_name(device: OldDevice) -> None:
    device.put(UNLOCKED, OLD)
    device.name(OLD, PIN)
    device.engine.client.api.remove_image(OLD.reference)
    device.use(replace(OLD, reference=PIN))
    assert [(name.reference, name.is_used) for name in device.find().names] == [(PIN, True)]


def test_images_without_a_name_are_counted_and_stay(device: OldDevice) -> None:
    api = device.engine.client.api
    device.put(UNLOCKED, OLD, OLDER)
    used = device.use(OLDER)
    for moved in (OLD, OLDER):
        api.tag(UNLOCKED.reference, *moved.reference.rsplit(":", 1))
    before = Inventory.of(device.engine)
    nameless = before.images - set(before.names.values())
    in_use = {with_algorithm(api.inspect_container(used)["Image"])}
    old = device.find()
    assert {image.id for image in old.unnamed} == nameless - in_use
    device.remove(old)
    after = Inventory.of(device.engine)
    assert after.images - set(after.names.values()) == nameless


def test_a_name_that_moved_in_the_meantime_stays(device: OldDevice) -> None:
    device.put(UNLOCKED, OLD, OLDER)
    old = device.find()
    device.name(UNLOCKED, OLD.reference)
    assert device.remove(old) == {OLD.reference: "It names another image by now."}
    assert device.names() == {UNLOCKED.reference, OLD.reference}
    device.put(OLD, OLDER)
    old = device.find()
    device.engine.client.api.remove_image(OLDER.reference)
    assert device.remove(old) == {}
    assert device.names() == {UNLOCKED.reference}


def test_a_container_made_in_the_meantime_keeps_its_image(device: OldDevice) -> None:
    device.put(UNLOCKED, OLD, OLDER)
    old = device.find()
    container = device.use(OLD)
    refused = device.remove(old)
    assert list(refused) == [OLD.reference]
    assert "container" in refused[OLD.reference]
    assert old.freed(refused) == old.names[0].image.size
    assert device.names() == {UNLOCKED.reference, OLD.reference}
    assert device.engine.client.api.inspect_container(container)["State"]["Status"] == "created"
