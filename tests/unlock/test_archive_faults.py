"""Archives that must not be unlocked: damaged, for another key, of another version, or unlike their manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.support.archives import APP, DATABASE, VERSION, Packed, seal
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage
from tests.support.images import has_image
from tests.support.unlocking import READY, Rig, UnlockDevice
from tests.unlock.conftest import assert_failed
from tests.unlock.odd_tars import empty_tar, junk

pytest_plugins = ("tests.support.unlock_fixtures",)

SEGMENT = 1 << 20

Damage = Callable[[bytearray], None]


def flip(offset: int) -> Damage:
    """Change one bit of the byte at `offset`, which may count from the end."""

    def damage(data: bytearray) -> None:
        data[offset] ^= 1

    return damage


def flip_in_segment(number: int) -> Damage:
    def damage(data: bytearray) -> None:
        start = 12 + int.from_bytes(data[8:12], "big")
        data[start + number * SEGMENT + SEGMENT // 2] ^= 1

    return damage


def cut(count: int) -> Damage:
    def damage(data: bytearray) -> None:
        del data[-count:]

    return damage


def append(data: bytearray) -> None:
    data.append(0)


def rename_an_image(data: bytearray) -> None:
    """Change a manifest that stays well-formed, so that only the authentication detects it."""
    position = data.index(DATABASE.encode())
    data[position : position + len(DATABASE)] = DATABASE.replace("database", "datebase").encode()


def swap_two_segments(data: bytearray) -> None:
    start = 12 + int.from_bytes(data[8:12], "big")
    first, second = (slice(start + n * SEGMENT, start + (n + 1) * SEGMENT) for n in (1, 2))
    data[first], data[second] = data[second], data[first]


def repeat_a_segment(data: bytearray) -> None:
    start = 12 + int.from_bytes(data[8:12], "big")
    data[start + 2 * SEGMENT : start + 3 * SEGMENT] = data[start + SEGMENT : start + 2 * SEGMENT]


DAMAGES = {
    "magic": flip(0),
    "renamed image": rename_an_image,
    "first segment": flip_in_segment(0),
    "middle segment": flip_in_segment(1),
    "last tag": flip(-1),
    "cut by one byte": cut(1),
    "cut by a segment": cut(SEGMENT),
    "appended byte": append,
    "swapped segments": swap_two_segments,
    "repeated segment": repeat_a_segment,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_nothing_of_a_damaged_archive_reaches_the_engine(rig: Rig, packed: Packed, damage: Damage) -> None:
    rig.device.put(packed.path)
    rig.device.change(damage)
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.loads == []
    assert not rig.device.tar.exists()

    assert rig.unlock(packed.path) == READY
    assert len(rig.loads) == 1
    assert all(has_image(rig.engine, image.reference) for image in packed.images)


def test_another_key_fragment_is_reported_as_a_mismatch_and_not_as_damage(rig: Rig, packed: Packed) -> None:
    tar = empty_tar()
    seal(rig.device.archive, packed.images, [tar], len(tar), fragment=b"another key fragment" * 2)
    assert_failed(rig.operator.unlock(), "KEY_MISMATCH")
    assert len(rig.device.api.requests("GET", "/binary-split/key-fragment")) == 1
    assert rig.loads == []
    assert not rig.device.tar.exists()

    assert rig.unlock(packed.path) == READY


def test_an_archive_without_the_expected_version_is_refused_before_any_download(rig: Rig) -> None:
    image = dataclasses.replace(HandmadeImage(APP, b"a", 1).described(), reference=DATABASE)
    seal(rig.device.archive, [image], junk(10), 10)
    status = rig.operator.unlock()
    assert_failed(status, "VERSION_MISMATCH")
    assert VERSION in str(status.error)
    assert DATABASE in str(status.error)
    assert rig.device.api.requests() == []
    assert rig.wire.requests == []


@pytest.mark.parametrize("content", [b"", b"AZIMAGE1", b"AZIMAGE1\xff\xff\xff\xff", b"not an archive at all"], ids=repr)
def test_a_file_that_is_not_an_archive_is_refused_before_any_download(rig: Rig, content: bytes) -> None:
    rig.device.archive.write_bytes(content)
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.device.api.requests() == []


def test_an_archive_with_another_image_than_in_its_manifest_is_a_mismatch(rig: Rig) -> None:
    image = HandmadeImage(APP, b"a" * 4096, 1)
    lie = dataclasses.replace(image.described(), id="sha256:" + "0" * 64, created="2020-01-01T00:00:00Z")
    seal(rig.device.archive, [lie], image.tar(), image.tar_size())
    status = rig.operator.unlock()
    assert_failed(status, "IMAGE_MISMATCH")
    assert APP in str(status.error)
    assert not rig.device.tar.exists()
    assert not rig.device.remembered.exists()


def test_an_archive_without_an_image_of_its_manifest_is_a_mismatch(rig: Rig) -> None:
    image = HandmadeImage(APP, b"a" * 4096, 1)
    absent = dataclasses.replace(image.described(), reference=DATABASE)
    seal(rig.device.archive, [image.described(), absent], image.tar(), image.tar_size())
    status = rig.operator.unlock()
    assert_failed(status, "IMAGE_MISMATCH")
    assert DATABASE in str(status.error)


def no_tar() -> bytes:
    return b"".join(junk(100_000))


def tar_with_a_corrupt_layer() -> bytes:
    tar = bytearray(b"".join(HandmadeImage(APP, b"a" * 4096, 1).tar()))
    tar[tar.index(b"a" * 4096)] ^= 1
    return bytes(tar)


REFUSED = {"no tar": (no_tar, "invalid tar header"), "corrupt layer": (tar_with_a_corrupt_layer, "diffID")}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_by_docker_is_reported(rig: Rig, make: Callable[[], bytes], reason: str) -> None:
    tar = make()
    seal(rig.device.archive, [HandmadeImage(APP, b"a" * 4096, 1).described()], [tar], len(tar))
    status = rig.operator.unlock()
    assert_failed(status, "ENGINE_REJECTED")
    assert reason in str(status.error)
    assert not rig.device.tar.exists()
    assert not has_image(rig.engine, APP)


def test_a_refusal_by_podman_is_reported(unlock_device: UnlockDevice, podman: Engine) -> None:
    operator = unlock_device.start(podman.host)
    for make, _ in REFUSED.values():
        tar = make()
        seal(unlock_device.archive, [HandmadeImage(APP, b"a" * 4096, 1).described()], [tar], len(tar))
        assert_failed(operator.unlock(), "ENGINE_REJECTED")
        assert not unlock_device.tar.exists()
        assert not has_image(podman, APP)
