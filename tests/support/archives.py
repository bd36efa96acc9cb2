"""Archives of images: packed by the command line as on a shipping machine, or sealed around any bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loader.crypto.archive import Manifest, ManifestImage, read_archive_header, seal_archive
from loader.crypto.segments import key_check
from tests.support.engines import Engine
from tests.support.images import import_image, remove_image, save_images, unnamed_images
from tests.support.loader_server import run_loader

# The fragment is text, so that a test would find it in a log.
FRAGMENT = b"the key fragment that only the tests know"
VERSION = "1.4"
PREFIX = "azaion-test/"
APP = f"{PREFIX}app:{VERSION}"
DATABASE = f"{PREFIX}database:9"


@dataclass(frozen=True)
class Packed:
    """An archive of images that were removed from the engine afterwards."""

    path: Path
    manifest: Manifest
    plain_tar: Path  # the same images as `docker save` writes them

    @property
    def images(self) -> tuple[ManifestImage, ...]:
        """Its images: `APP` of more than 3 MiB, and `DATABASE`."""
        return self.manifest.images


def pack_and_remove(engine: Engine, directory: Path) -> Packed:
    """Make `APP` and `DATABASE` in `engine`, pack both under `FRAGMENT`, and remove them from the engine."""
    import_image(engine, APP, random_mib=3)
    import_image(engine, DATABASE, seed=9)
    path, key = directory / "packed.enc", directory / "fragment.key"
    key.write_bytes(FRAGMENT)
    arguments = ("images", "pack", APP, DATABASE, "--key", str(key), "-o", str(path))
    done = run_loader(directory, *arguments, DOCKER_HOST=engine.host)
    assert done.returncode == 0, done.stderr
    plain_tar = save_images(engine, [APP, DATABASE], directory / "plain.tar")
    remove_all_images(engine)
    return Packed(path, manifest_of(path), plain_tar)


def seal(
    path: Path, images: Sequence[ManifestImage], tar: Iterable[bytes], size: int, fragment: bytes = FRAGMENT
) -> Path:
    """Write an archive whose manifest lists `images` and that holds `tar` of `size` bytes; return `path`."""
    manifest = Manifest(tuple(images), size, key_check(fragment), datetime.now(UTC).isoformat(timespec="seconds"))
    with path.open("wb") as file:
        for piece in seal_archive(manifest, tar, fragment):
            file.write(piece)
    return path


def manifest_of(path: Path) -> Manifest:
    """Return the manifest of the archive at `path`."""
    with path.open("rb") as file:
        return read_archive_header(file).manifest


def tags_of_tests(engine: Engine) -> list[str]:
    """Return the sorted references in `engine` that contain `PREFIX`, whatever registry the engine adds to them."""
    return sorted(tag for image in engine.client.images.list() for tag in image.tags if PREFIX in tag)


def remove_all_images(engine: Engine) -> None:
    """Remove every image below `PREFIX`, and the images of the tests that have lost their name."""
    for tag in tags_of_tests(engine):
        remove_image(engine, tag)
    if engine.process is not None:  # in an engine of the tests every image without a name was made by a test
        for image in unnamed_images(engine):
            remove_image(engine, image)
