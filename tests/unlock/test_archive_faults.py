"""Archives that must not be unlocked: damaged, for another key, of another version, or with lies of the packer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loader.binary_split import open_archive
from loader.crypto.archive_head import GZIP
from tests.support.archives import APP, DATABASE, VERSION, Packed
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image
from tests.support.unlocking import READY, Rig, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

SEGMENT = 1 << 20

Damage = Callable[[bytearray, slice], None]


def flip_in_segment(number: int) -> Damage:
    def damage(data: bytearray, blob: slice) -> None:
        data[blob.start + number * SEGMENT + SEGMENT // 2] ^= 1

    return damage


def flip_the_last_tag(data: bytearray, blob: slice) -> None:
    data[blob.stop - 1] ^= 1


def cut_a_segment(data: bytearray, _: slice) -> None:
    del data[-SEGMENT:]


def swap_two_segments(data: bytearray, blob: slice) -> None:
    first, second = (slice(blob.start + n * SEGMENT, blob.start + (n + 1) * SEGMENT) for n in (1, 2))
    data[first], data[second] = data[second], data[first]


def repeat_a_segment(data: bytearray, blob: slice) -> None:
    start = blob.start
    data[start + 2 * SEGMENT : start + 3 * SEGMENT] = data[start + SEGMENT : start + 2 * SEGMENT]


# Changes of a blob of more than three segments; test_tampering.py changes every other part.
DAMAGES = {
    "first segment": flip_in_segment(0),
    "middle segment": flip_in_segment(1),
    "last tag": flip_the_last_tag,
    "cut by a segment": cut_a_segment,
    "swapped segments": swap_two_segments,
    "repeated segment": repeat_a_segment,
}


def large_blob(packed: Packed) -> slice:
    """Return where the large layer of `APP` lies in the archive."""
    blob = packed.head.blob[packed.images[0].layers[1]]
    with open_archive(packed.path) as archive:
        start = archive.index.offsets[blob.digest]
    return slice(start, start + blob.stored_size)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_nothing_of_a_damaged_archive_reaches_the_engine(rig: Rig, packed: Packed, damage: Damage) -> None:
    rig.device.put(packed.path)
    rig.device.change(lambda data: damage(data, large_blob(packed)))
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.loads == []
    assert not rig.device.tar.exists()

    assert rig.unlock(packed.path) == READY
    assert len(rig.loads) == 2
    assert all(has_image(rig.engine, image.reference) for image in packed.images)


def test_another_key_fragment_is_reported_as_a_mismatch_and_not_as_damage(rig: Rig, packed: Packed) -> None:
    seal(rig.device.archive, [HandmadeImage(APP)], fragment=b"another key fragment" * 2)
    assert_failed(rig.operator.unlock(), "KEY_MISMATCH")
    assert len(rig.device.api.requests("GET", "/binary-split/key-fragment")) == 1
    assert rig.loads == []
    assert not rig.device.tar.exists()

    assert rig.unlock(packed.path) == READY


def test_an_archive_of_another_version_is_refused_before_any_download(rig: Rig) -> None:
    """The version is that of the release: an image of the expected version in it changes nothing."""
    seal(rig.device.archive, [HandmadeImage(APP)], version="1.4.1")
    status = rig.operator.unlock()
    assert_failed(status, "VERSION_MISMATCH")
    assert VERSION in str(status.error)
    assert "1.4.1" in str(status.error)
    assert rig.device.api.requests() == []
    assert rig.wire.requests == []


def test_the_tags_of_the_images_do_not_decide_about_the_version(rig: Rig) -> None:
    seal(rig.device.archive, [HandmadeImage(DATABASE)], version=VERSION)
    assert rig.operator.unlock() == READY


@pytest.mark.parametrize(
    "content", [b"", b"AZIMAGE2", b"AZIMAGE2\xff\xff\xff\xff", b"AZIMAGE1", b"not an archive at all"], ids=repr
)
def test_a_file_that_is_not_an_archive_is_refused_before_any_download(rig: Rig, content: bytes) -> None:
    rig.device.archive.write_bytes(content)
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.device.api.requests() == []


IMAGE = HandmadeImage(APP, (HandmadeLayer(b"a" * 4096),))
LAYER = IMAGE.image.layers[0]


def content_of(digest: str) -> bytes:
    return b"".join(IMAGE.contents()[digest])


def other_layer() -> dict[str, bytes]:
    """Return the layer with another content of the same size."""
    return {LAYER: content_of(LAYER).replace(b"a" * 4096, b"b" * 4096)}


def no_layer() -> dict[str, bytes]:
    """Return a layer that is no tar."""
    return {LAYER: b"\xa5" * len(content_of(LAYER))}


REFUSED = {"other layer": (other_layer, "diffID"), "no layer": (no_layer, "")}


@pytest.mark.parametrize(("lies", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_by_docker_is_reported(rig: Rig, lies: Callable[[], dict[str, bytes]], reason: str) -> None:
    """Only the engine can notice it, because the packer with the key has lied."""
    seal(rig.device.archive, [IMAGE], codec=GZIP, lies=lies())
    status = rig.operator.unlock()
    assert_failed(status, "ENGINE_REJECTED")
    assert reason in str(status.error)
    assert len(rig.loads) == 1
    assert not rig.device.tar.exists()
    assert not rig.device.remembered.exists()
    assert not has_image(rig.engine, APP)


@pytest.mark.long
def test_a_refusal_by_podman_is_reported(unlock_device: UnlockDevice, podman: Engine) -> None:
    operator = unlock_device.start(podman.host)
    for lies, _ in REFUSED.values():
        seal(unlock_device.archive, [IMAGE], codec=GZIP, lies=lies())
        assert_failed(operator.unlock(), "ENGINE_REJECTED")
        assert not unlock_device.tar.exists()
        assert not has_image(podman, APP)


@pytest.mark.parametrize("digest", [IMAGE.image.manifest, IMAGE.image.config], ids=["manifest", "configuration"])
def test_a_description_with_another_digest_is_detected_before_the_engine(rig: Rig, digest: str) -> None:
    """The packer with the key has lied; the loader computes these digests itself."""
    seal(rig.device.archive, [IMAGE], codec=GZIP, lies={digest: content_of(digest).replace(b"sha256", b"SHA256")})
    assert_failed(rig.operator.unlock(), "ARCHIVE_CORRUPT")
    assert rig.loads == []
    assert not rig.device.tar.exists()
