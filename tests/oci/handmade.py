"""An image with a layer that stands twice in its chain, and the head that describes it."""

from __future__ import annotations

from loader.crypto.archive_head import Blob, Head, Packed, Release
from tests.support.handmade_image import CREATED, HandmadeImage, HandmadeLayer

BASE = HandmadeLayer(b"base", 300, name="base")
OWN = HandmadeLayer(b"own", 7, name="own")
IMAGE = HandmadeImage("azaion/app:1.4", (BASE, OWN, BASE))
NAME = "docker.io/azaion/app:1.4"
CONTENTS = {digest: b"".join(content) for digest, content in IMAGE.contents().items()}


def _blob(number: int, digest: str) -> Blob:
    """Return a blob as if it had been sealed; no test here seals anything."""
    size = len(CONTENTS[digest])
    return Blob(digest, size, "none", Packed(digest.removeprefix("sha256:"), size), f"{number:064x}")


HEAD = Head(
    Release("1.4", 1, CREATED),
    "0a" * 16,
    (IMAGE.image,),
    tuple(_blob(number, digest) for number, digest in enumerate(CONTENTS)),
)
