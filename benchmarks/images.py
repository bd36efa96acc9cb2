"""The images of the benchmarks: one of noise, which does not compress, and one like a service in Python."""

from __future__ import annotations

import os
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import python, run
from benchmarks.workload import MIB, Workload
from tests.support.engines import Engine
from tests.support.images import save_images

TAG = "1"
NOISE = f"azaion-bench/noise:{TAG}"
SERVICE = f"azaion-bench/service:{TAG}"
# What the image of a service in Python consists of: the system's libraries, the interpreter's, and packages.
SERVICE_PARTS = ("/usr/lib", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))


@dataclass(frozen=True)
class BenchImage:
    """An image in an engine: its name, and the size of its files in MiB."""

    name: str
    mib: int


def noise_image(engine: Engine, work: Workload, place: Path) -> BenchImage:
    """Import an image of one layer with the data of the workload, by way of a file in `place`."""
    return _imported(engine, NOISE, [work.data], work.mib, place)


def service_image(engine: Engine, work: Workload, place: Path) -> BenchImage:
    """Import an image of one layer with files of this machine, of the size of the workload or less."""
    return _imported(engine, SERVICE, service_files(work.mib * MIB), work.mib, place)


def saved(engine: Engine, image: BenchImage, place: Path) -> Path:
    """Return a file in `place` with the image in the form of `docker save`."""
    return save_images(engine, [image.name], place / "plain.tar")


def new_key(place: Path) -> Path:
    """Write a new key fragment into `place`. Return its path."""
    key = place / "fragment.key"
    run(python("loader", "key", "new", "-o", key))
    return key


def pack_command(key: Path, archive: Path, name: str, *options: str) -> list[str]:
    """Return the command that packs the image `name` from the engine DOCKER_HOST into `archive`."""
    return python("loader", "images", "pack", name, *options, "--key", key, "-o", archive)


def _imported(engine: Engine, name: str, files: list[Path] | Iterator[Path], mib: int, place: Path) -> BenchImage:
    root = place / "root.tar"
    with tarfile.open(root, "w") as tar:
        for path in files:
            tar.add(path, path.name if path.is_relative_to(place.parent) else str(path), recursive=False)
    engine.client.api.import_image_from_file(str(root), repository=name)
    root.unlink()
    return BenchImage(name, mib)


def service_files(size: int, smallest: int = 0) -> Iterator[Path]:
    """Yield files of each part in turn, of at least `smallest` bytes each, until they have `size` bytes together."""
    for part in SERVICE_PARTS:
        left = size // len(SERVICE_PARTS)
        for directory, _, names in os.walk(part):
            for path in (Path(directory, name) for name in sorted(names)):
                if path.is_file() and not path.is_symlink() and smallest <= path.stat().st_size <= left:
                    left -= path.stat().st_size
                    yield path
