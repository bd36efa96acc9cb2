"""An image, and changes to its files that make lies of them."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable

from tests.packing.hand_sources import (
    Files,
    add,
    content_of,
    docker_files,
    sha256,
)
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

MARKER = b"a secret of the makers, in plaintext "
SECOND = HandmadeLayer(random.Random(5).randbytes(1000), 30, "second")  # noqa: S311  every run needs the same bytes
IMAGE = HandmadeImage("lies/app:1", (HandmadeLayer(MARKER, 30_000), SECOND))
OTHER = HandmadeImage("lies/app:1", IMAGE.layers, {"User": "root"})
FIRST_TAR, SECOND_TAR = (f"{sha256(content_of(layer))}.tar" for layer in IMAGE.layers)
CONFIG = f"{sha256(IMAGE.config)}.json"
SECOND_BLOB = f"blobs/sha256/{sha256(content_of(SECOND))}"

Change = Callable[[Files], object]


def manifest_with(**fields: object) -> Change:
    def change(files: Files) -> None:
        (entry,) = json.loads(files["manifest.json"])
        files["manifest.json"] = json.dumps([entry | fields]).encode()

    return change


def odd_member(name: str, kind: bytes, target: str = "", files: Files | None = None) -> bytes:
    """Return the tar of `files`, by default those of `IMAGE`, with one more member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for file, content in (files or docker_files(IMAGE)).items():
            add(archive, file, content)
        add(archive, name, target or b"", kind)
    return made.getvalue()
