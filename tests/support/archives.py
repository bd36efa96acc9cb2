"""Archives of images: one that most tests unlock, and what they look for in an engine afterwards."""

from __future__ import annotations

import platform
import random
from dataclasses import dataclass
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive_head import Head, Image
from loader.references import is_own_reference
from loader.unlock.layers import layouts_of
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.images import remove_image, unnamed_images

VERSION = "1.4"
PREFIX = "azaion-test/"
APP = f"{PREFIX}app:{VERSION}"
DATABASE = f"{PREFIX}database:9"
MIB = 1 << 20
# The platform of this machine, and so of the engines of the tests; the plan warns of an image for another one.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PLATFORM = f"linux/{ARCHITECTURE}"


@dataclass(frozen=True)
class Packed:
    """An archive of `APP`, of more than 3 MiB, and of `DATABASE`, whose one layer is at the bottom of `APP` too.

    Both images are made for this machine.
    """

    path: Path
    head: Head
    plain_tar: Path  # the same images as `docker save` writes them

    @property
    def images(self) -> tuple[Image, ...]:
        """Its images."""
        return self.head.images

    @property
    def sent(self) -> list[int]:
        """The sizes of the tars that an empty engine gets, in bytes."""
        return [layout.size for layout in layouts_of(self.head, set())]


def sealed_images(directory: Path) -> Packed:
    """Seal `APP` and `DATABASE` in `directory` under `FRAGMENT`."""
    noise = random.Random(14).randbytes(MIB)  # noqa: S311  every run needs the same bytes
    base = HandmadeLayer(b"base" * 256, 256, "base.bin")
    images = (
        HandmadeImage(APP, (base, HandmadeLayer(noise, 3)), architecture=ARCHITECTURE),
        HandmadeImage(DATABASE, (base,), architecture=ARCHITECTURE),
    )
    path = seal(directory / "packed.enc", images)
    plain_tar = directory / "plain.tar"
    plain_tar.write_bytes(b"".join(docker_archive(*images)))
    return Packed(path, head_of(path), plain_tar)


def head_of(path: Path) -> Head:
    """Return the head of the archive at `path`."""
    with open_archive(path) as archive:
        return archive.head


def tags_of_tests(engine: Engine) -> list[str]:
    """Return the sorted references in `engine` that contain `PREFIX`, whatever registry the engine adds to them."""
    return sorted(tag for image in engine.client.images.list() for tag in image.tags if PREFIX in tag)


def names_of_loaders(engine: Engine) -> list[str]:
    """Return the names that loaders have given to images, such as those of a previous release."""
    tags = (tag for image in engine.client.images.list() for tag in image.tags)
    return [tag for tag in tags if is_own_reference(tag)]


def remove_all_images(engine: Engine) -> None:
    """Remove each image below `PREFIX`, the names of loaders, and the images of the tests that have lost their name."""
    for tag in (*tags_of_tests(engine), *names_of_loaders(engine)):
        remove_image(engine, tag)
    if engine.process is not None:  # in an engine of the tests every image without a name was made by a test
        for image in unnamed_images(engine):
            remove_image(engine, image)
