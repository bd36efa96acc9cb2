"""Archives that somebody without the key has changed, cut or put together from others.

Whatever was changed, the code is the right one, the engine is only looked at, and the disk has no plaintext.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.archive_parts import Parts
from tests.support.archives import APP, DATABASE
from tests.support.engines import Engine
from tests.support.flips import flipped
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.unlocking import READY
from tests.unlock.watched_device import WatchedDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

OTHER_FRAGMENT = FRAGMENT[::-1]
OTHER_ROOT = bytes(reversed(range(32)))
# The layers have the same size, so that they can take each other's place.
LAYERS = tuple(HandmadeLayer(bytes([letter]) * 4096) for letter in b"ab")
IMAGES = (HandmadeImage(APP, LAYERS), HandmadeImage(DATABASE, LAYERS[::-1]))
# One value of the JSON of a head or of seals, with the name of its field.
VALUE = re.compile(rb'"([a-z0-9_]+)":\[?("[^"]*"|[0-9]+)')
BLOB_PLACES = {"header length": 0, "salt": 1, "nonce prefix": 33, "content": 40, "tag": -1}

Change = Callable[[Parts], None]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive whose parts take each other's place in the tests."""
    return seal(tmp_path_factory.mktemp("archive") / "images.enc", IMAGES).read_bytes()


def value_places(document: bytes) -> Iterator[tuple[str, int]]:
    """Yield each field once that has a string or a number, and where the first character of its first value stands."""
    seen = set()
    for found in VALUE.finditer(document):
        name = found[1].decode()
        if name not in seen:
            seen.add(name)
            yield name, found.start(2) + found[2].startswith(b'"')


def test_a_changed_byte_of_each_field_is_detected(watched: WatchedDevice, archive: bytes) -> None:
    codes = {"version": {"VERSION_MISMATCH"}, "check": {"KEY_MISMATCH", "ARCHIVE_CORRUPT"}}
    names = set()
    for part in ("head", "seals"):
        for name, position in value_places(getattr(Parts.of(archive), part)):
            parts = Parts.of(archive)
            setattr(parts, part, flipped(getattr(parts, part), position))
            watched.assert_refused(parts.joined(), codes.get(name, {"ARCHIVE_CORRUPT"}), name)
            names.add(name)
    assert names == {
        *("format", "version", "serial", "created", "root_id", "reference", "platform", "manifest", "config"),
        *("layers", "digest", "size", "codec", "sha256", "stored", "check", "root", "mac"),
    }


def test_a_changed_byte_around_the_fields_is_detected(watched: WatchedDevice, archive: bytes) -> None:
    """A character of the JSON itself, a name of a field, and all bytes that are no JSON."""
    position = 0
    for name, piece in Parts.of(archive).pieces():
        if name in ("head", "seals"):
            places = [piece.index(character) for character in b'{":,}[]'] + [2]
        elif name == "present":
            places = [0, 31, 32, len(piece) - 1]
        elif name.startswith("blob"):
            places = [0, len(piece) - 1]
        else:
            places = list(range(len(piece)))
        for place in places:
            watched.assert_refused(flipped(archive, position + place), {"ARCHIVE_CORRUPT"}, (name, place))
        position += len(piece)


@pytest.mark.parametrize("place", BLOB_PLACES)
def test_a_changed_byte_of_each_blob_is_detected(watched: WatchedDevice, archive: bytes, place: str) -> None:
    for number in range(len(Parts.of(archive).blobs)):
        parts = Parts.of(archive)
        parts.blobs[number] = flipped(parts.blobs[number], BLOB_PLACES[place])
        watched.assert_refused(parts.joined(), {"ARCHIVE_CORRUPT"}, number)


def test_a_cut_at_and_beside_each_boundary_is_detected(watched: WatchedDevice, archive: bytes) -> None:
    boundaries = {max(0, boundary + beside) for boundary in Parts.of(archive).boundaries() for beside in (-1, 0, 1)}
    for size in sorted(boundaries):
        if size < len(archive):
            watched.assert_refused(archive[:size], {"ARCHIVE_CORRUPT"}, size)


@pytest.mark.parametrize("more", [b"\0", bytes(64), None], ids=["byte", "bytes", "archive"])
def test_appended_bytes_are_detected(watched: WatchedDevice, archive: bytes, more: bytes | None) -> None:
    watched.assert_refused(archive + (archive if more is None else more), {"ARCHIVE_CORRUPT"}, more)


# The places of two blobs of the same size in the head, behind a manifest and a configuration.
LAYER, OTHER_LAYER = 2, 3


def other(directory: Path, **options: bytes | int) -> Parts:
    """Return another archive of the same images. Without `options` it has an image more."""
    images = IMAGES if options else (*IMAGES, HandmadeImage("azaion-test/third:1"))
    return Parts.of(seal(directory / "other.enc", images, **options).read_bytes())  # type: ignore[arg-type]


def swap_blobs(parts: Parts) -> None:
    parts.blobs[LAYER], parts.blobs[OTHER_LAYER] = parts.blobs[OTHER_LAYER], parts.blobs[LAYER]


def double_a_blob(parts: Parts) -> None:
    parts.blobs[OTHER_LAYER] = parts.blobs[LAYER]


def lose_a_blob(parts: Parts) -> None:
    del parts.blobs[LAYER]


def lose_the_bytes_of_a_blob(parts: Parts) -> None:
    parts.blobs[LAYER] = b""


def swap_present(parts: Parts) -> None:
    parts.present[0], parts.present[1] = parts.present[1], parts.present[0]


def double_present(parts: Parts) -> None:
    parts.present.insert(1, parts.present[0])


def lose_present(parts: Parts) -> None:
    del parts.present[LAYER]


def swap_blobs_and_present(parts: Parts) -> None:
    swap_blobs(parts)
    parts.present[LAYER], parts.present[OTHER_LAYER] = parts.present[OTHER_LAYER], parts.present[LAYER]


def lose_a_blob_and_present(parts: Parts) -> None:
    del parts.blobs[LAYER], parts.present[LAYER]


def lose_everything(parts: Parts) -> None:
    parts.blobs, parts.present = [], []


def rename_an_image(parts: Parts) -> None:
    parts.head = parts.head.replace(b"database", b"datebase")


def raise_the_serial(parts: Parts) -> None:
    release = json.loads(parts.head)["release"]
    parts.edit_head(release=release | {"serial": release["serial"] + 1})


def swap_the_layers_of_an_image(parts: Parts) -> None:
    images = json.loads(parts.head)["images"]
    images[0]["layers"].reverse()
    parts.edit_head(images=images)


def exchange_the_images(parts: Parts) -> None:
    """Give each image the name of the other."""
    images = json.loads(parts.head)["images"]
    images[0]["reference"], images[1]["reference"] = images[1]["reference"], images[0]["reference"]
    parts.edit_head(images=images)


def describe_a_changed_blob(parts: Parts) -> None:
    """Put a blob that is described correctly in the place of another, which needs no key."""
    blobs = json.loads(parts.head)["blobs"]
    blobs[LAYER]["stored"], blobs[OTHER_LAYER]["stored"] = blobs[OTHER_LAYER]["stored"], blobs[LAYER]["stored"]
    parts.edit_head(blobs=blobs)
    swap_blobs_and_present(parts)


def write_the_head_in_another_way(parts: Parts) -> None:
    parts.head = json.dumps(json.loads(parts.head)).encode()


def repeat_a_field(parts: Parts) -> None:
    parts.head = parts.head.replace(b'{"format":2', b'{"format":2,"format":2')


def forget_the_seals(parts: Parts) -> None:
    parts.seals = b"{}"


def take_a_zero_mac(parts: Parts) -> None:
    parts.edit_seals(mac="0" * 64)


CORRUPT, INCOMPLETE = "ARCHIVE_CORRUPT", "ARCHIVE_INCOMPLETE"
CHANGES: dict[Change, str] = {
    swap_blobs: CORRUPT,
    double_a_blob: CORRUPT,
    lose_a_blob: CORRUPT,
    lose_the_bytes_of_a_blob: CORRUPT,
    swap_present: CORRUPT,
    double_present: CORRUPT,
    lose_present: CORRUPT,
    swap_blobs_and_present: CORRUPT,
    lose_a_blob_and_present: INCOMPLETE,
    lose_everything: INCOMPLETE,
    rename_an_image: CORRUPT,
    raise_the_serial: CORRUPT,
    swap_the_layers_of_an_image: CORRUPT,
    exchange_the_images: CORRUPT,
    describe_a_changed_blob: CORRUPT,
    write_the_head_in_another_way: CORRUPT,
    repeat_a_field: CORRUPT,
    forget_the_seals: CORRUPT,
    take_a_zero_mac: CORRUPT,
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_well_made_change_is_detected(watched: WatchedDevice, archive: bytes, change: Change) -> None:
    parts = Parts.of(archive)
    change(parts)
    assert parts.joined() != archive
    watched.assert_refused(parts.joined(), {CHANGES[change]}, change)


def test_the_seals_of_another_release_do_not_fit(watched: WatchedDevice, archive: bytes, tmp_path: Path) -> None:
    parts = Parts.of(archive)
    parts.seals = other(tmp_path).seals
    watched.assert_refused(parts.joined(), {"ARCHIVE_CORRUPT"}, "another head")
    parts.seals = other(tmp_path, fragment=OTHER_FRAGMENT).seals
    watched.assert_refused(parts.joined(), {"KEY_MISMATCH"}, "another fragment")
    parts.seals = other(tmp_path, root=OTHER_ROOT).seals
    watched.assert_refused(parts.joined(), {"ARCHIVE_CORRUPT"}, "another root")


def test_a_root_of_another_release_does_not_fit(watched: WatchedDevice, archive: bytes, tmp_path: Path) -> None:
    parts = Parts.of(archive)
    theirs = json.loads(other(tmp_path, root=OTHER_ROOT).seals)["key"]["root"]
    parts.edit_seals(key=json.loads(parts.seals)["key"] | {"root": theirs})
    watched.assert_refused(parts.joined(), {"ARCHIVE_CORRUPT"}, "root")


def test_another_check_is_another_key(watched: WatchedDevice, archive: bytes) -> None:
    parts = Parts.of(archive)
    parts.edit_seals(key=json.loads(parts.seals)["key"] | {"check": "0" * 16})
    watched.assert_refused(parts.joined(), {"KEY_MISMATCH"}, "check")


def test_a_blob_under_another_root_is_another_blob(watched: WatchedDevice, archive: bytes, tmp_path: Path) -> None:
    theirs = other(tmp_path, root=OTHER_ROOT).blobs
    for number in range(len(theirs)):
        parts = Parts.of(archive)
        parts.blobs[number] = theirs[number]
        watched.assert_refused(parts.joined(), {"ARCHIVE_CORRUPT"}, number)


def test_an_archive_that_was_put_together_again_is_unlocked(
    watched: WatchedDevice, docker: Engine, archive: bytes
) -> None:
    """This shows that the other tests are refused for their changes alone."""
    parts = Parts.of(archive)
    assert parts.end == b""
    assert parts.joined() == archive
    assert watched.unlock(archive) == READY
    assert len(docker.client.images.list(APP)) == 1
