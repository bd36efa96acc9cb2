"""Layers whose gzip holds another number of bytes than the packer with the key has said.

Only inflating shows it, so that mode `stream` has started the load by then.
"""

from __future__ import annotations

import dataclasses

import pytest

from loader.crypto.archive import archive_start
from loader.crypto.archive_head import GZIP, Head, Release, StoredHead
from loader.crypto.archive_seals import Seals, root_id
from tests.support.archives import APP, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import CREATED, FRAGMENT, ROOT, HandmadeImage, HandmadeLayer, sealed_blob
from tests.support.images import image_id, import_image, unnamed_images
from tests.support.unlocking import READY
from tests.unlock.conftest import assert_failed
from tests.unlock.watched_device import WatchedDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
IMAGE = HandmadeImage(APP, (HandmadeLayer(b"a" * MIB, 3),))
LAYER = IMAGE.image.layers[0]


def archive_with_layer(content: bytes) -> bytes:
    """Return an archive of `IMAGE` whose head tells the right size of its layer, but whose blob holds `content`."""
    contents = {digest: b"".join(pieces) for digest, pieces in IMAGE.contents().items()}
    sealed = {digest: sealed_blob(digest, data, ROOT, GZIP) for digest, data in (contents | {LAYER: content}).items()}
    blobs = [dataclasses.replace(blob, size=len(contents[digest])) for digest, (blob, _) in sealed.items()]
    head = StoredHead.of(Head(Release("1.4", 1, CREATED), root_id(ROOT), (IMAGE.image,), tuple(blobs)))
    return archive_start(head, Seals.make(head, ROOT, FRAGMENT), blobs) + b"".join(data for _, data in sealed.values())


@pytest.mark.parametrize("more", [-1, -MIB, 1, 64 * MIB], ids=["byte less", "MiB less", "byte more", "bomb"])
def test_content_of_another_size_leaves_nothing(watched: WatchedDevice, docker: Engine, more: int) -> None:
    content = b"".join(IMAGE.contents()[LAYER])
    before = import_image(docker, APP)
    assert_failed(
        watched.unlock(archive_with_layer((content + bytes(max(more, 0)))[: len(content) + more])), "ARCHIVE_CORRUPT"
    )
    assert len(watched.loads) == (watched.mode == "stream")
    assert image_id(docker, APP) == before
    assert tags_of_tests(docker) == [APP]
    assert unnamed_images(docker) == []
    watched.assert_no_plaintext()


def test_content_of_the_right_size_is_unlocked(watched: WatchedDevice, docker: Engine) -> None:
    assert watched.unlock(archive_with_layer(b"".join(IMAGE.contents()[LAYER]))) == READY
    assert image_id(docker, APP) == IMAGE.image.config
