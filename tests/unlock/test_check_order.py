"""The order of the checks of an unlock: an archive with many faults is reported for the first of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pytest

from loader.crypto.archive import archive_start
from loader.crypto.archive_head import GZIP, Head, Release, StoredHead
from loader.crypto.archive_seals import Seals, root_id
from loader.crypto.blobs import associated_data, blob_key
from loader.crypto.gzip_members import compress
from loader.crypto.streaming_aead import encrypt
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark
from tests.support.archives import APP, remove_all_images
from tests.support.engines import Engine
from tests.support.faulty_api import Fault
from tests.support.handmade_image import (
    CREATED,
    FRAGMENT,
    ROOT,
    HandmadeImage,
    HandmadeLayer,
    docker_archive,
    sealed_blob,
)
from tests.support.publishers import ANNA, EVE
from tests.support.unlocking import READY
from tests.unlock.watched_device import WatchedDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

LOOK_UP = f"/images/docker.io/{APP}/json"
LOGIN, KEY = "/login", "/binary-split/key-fragment"
IMAGE = HandmadeImage(APP, (HandmadeLayer(b"a" * 4096),))
MORE_THAN_ANY_DISK = 1 << 50

# Each fault in the order of the checks: the code, a part of the error, and the requests to the API until it is noticed.
FAULTS = {
    "corrupt": ("ARCHIVE_CORRUPT", "bytes instead of", []),
    "publisher": ("UNTRUSTED_PUBLISHER", "no valid signature", []),
    "version": ("VERSION_MISMATCH", "The archive is release 9.9", []),
    "rollback": ("ROLLBACK", "(serial 4, made ", []),
    "present": (None, "", []),
    "thin": ("ARCHIVE_INCOMPLETE", "lacks 1 blobs", []),
    "room": ("DISK_SPACE", "too little room", []),
    "login": ("LOGIN_REJECTED", "", [LOGIN]),
    "key": ("KEY_MISMATCH", "another key fragment", [LOGIN, KEY]),
    "minimum": ("ROLLBACK", "no serial below 7", [LOGIN, KEY]),
    "mac": ("ARCHIVE_CORRUPT", "its head does not authenticate", [LOGIN, KEY]),
    "root": ("ARCHIVE_CORRUPT", "its root does not authenticate", [LOGIN, KEY]),
    "description": ("ARCHIVE_CORRUPT", "is not the one that its head describes", [LOGIN, KEY]),
    "stored": ("ARCHIVE_CORRUPT", "is not the one that its head names", [LOGIN, KEY]),
    "content": ("ENGINE_REJECTED", "diffID", [LOGIN, KEY]),
}
NAMES = list(FAULTS)
# What the device had before; one of the faults is that the archive is older.
NEWEST = KnownRelease("1.3", 5, CREATED, "0" * 64)


def forget_unlocks(device: WatchedDevice) -> None:
    """Leave nothing of earlier unlocks but the mark of the newest release."""
    for path in (device.directory / "models").iterdir():
        path.unlink()
    (device.directory / "models" / MARK_NAME).write_bytes(ReleaseMark(NEWEST).to_bytes())


def archive_with(faults: Collection[str]) -> bytes:
    """Return an archive of `IMAGE` with those of `faults` that an archive can have."""
    contents = {digest: b"".join(content) for digest, content in IMAGE.contents().items()}
    image = IMAGE.image
    if "content" in faults:
        contents[image.layers[0]] = contents[image.layers[0]].replace(b"a" * 4096, b"b" * 4096)
    sealed = [sealed_blob(digest, content, ROOT, GZIP) for digest, content in contents.items()]
    blobs = [blob for blob, _ in sealed]
    stored = [bytearray(data) for _, data in sealed]
    if "stored" in faults:
        # The same bytes under another header: the cipher accepts them, so that only the digest tells.
        packed = blobs[-1].packed
        resealed = encrypt(compress([contents[blobs[-1].digest]]), blob_key(packed, ROOT), associated_data(packed))
        stored[-1] = bytearray(b"".join(map(bytes, resealed)))
    if "description" in faults:
        image = dataclasses.replace(image, created="2020-01-01T00:00:00Z")
    if "room" in faults:
        blobs[-1] = dataclasses.replace(blobs[-1], size=MORE_THAN_ANY_DISK)
    release = Release(
        "9.9" if "version" in faults else "1.4", 4 if "rollback" in faults else NEWEST.serial + 1, CREATED
    )
    head = StoredHead.of(Head(release, root_id(ROOT), (image,), tuple(blobs)))
    fragment = FRAGMENT[::-1] if "key" in faults else FRAGMENT
    seals = Seals.make(head, ROOT, fragment)
    if "root" in faults:
        seals = dataclasses.replace(seals, root=seals.root[:-1] + bytes([seals.root[-1] ^ 1]))
    if "mac" in faults:
        seals = dataclasses.replace(seals, mac="0" * 64)
    signer = EVE if "publisher" in faults else ANNA
    seals = dataclasses.replace(seals, signatures=(signer.sign(head),))
    present = len(blobs) - ("thin" in faults)
    end = b"\0" if "corrupt" in faults else b""
    return archive_start(head, seals, blobs[:present]) + b"".join(stored[:present]) + end


@pytest.mark.parametrize("first", range(len(NAMES)), ids=NAMES)
def test_the_first_of_many_faults_is_reported(careful: WatchedDevice, docker: Engine, first: int) -> None:
    """All later faults are there too, so that no check may come before an earlier one."""
    faults = NAMES[first:]
    if "present" in faults:
        docker.client.images.load(b"".join(docker_archive(IMAGE)))
    careful.api.reset()
    forget_unlocks(careful)
    if "login" in faults:
        careful.api.answer("POST", LOGIN, Fault(401))
    if "minimum" in faults:
        stated = {"Azaion-Minimum-Serial": "7"}
        careful.api.answer("GET", KEY, Fault(body=FRAGMENT, headers=stated))

    status = careful.unlock(archive_with(faults))

    code, part, api_paths = FAULTS[faults[0]]
    assert (status.state, status.code) == ("error" if code else "ready", code)
    assert part in str(status.error)
    assert careful.api_paths == api_paths
    assert len(careful.loads) == (faults == ["content"])
    if careful.loads:
        remove_all_images(docker)
    else:
        careful.assert_untouched()
    looked_up = [path for path in careful.engine_paths if path == LOOK_UP]
    assert bool(looked_up) is (first >= NAMES.index("present"))
    described = {"/info", "/version"} <= set(careful.engine_paths)
    assert described is (first >= NAMES.index("room"))


def test_an_archive_without_a_fault_is_unlocked(careful: WatchedDevice, docker: Engine) -> None:
    careful.api.reset()
    forget_unlocks(careful)
    assert careful.unlock(archive_with(())) == READY
    assert careful.api_paths == [LOGIN, KEY]
    assert len(careful.loads) == 1
    assert len(docker.client.images.list(APP)) == 1
