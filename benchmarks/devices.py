"""A device to unlock: an engine of its own, an image and its archive."""

from __future__ import annotations

import os
import tarfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import python, require_program, run
from benchmarks.servers import loader, private_dockerd, resource_api
from benchmarks.workload import Workload
from tests.support.engines import Engine
from tests.support.images import remove_image
from tests.support.loader_server import LoaderServer
from tests.support.processes import clean_env
from tests.support.resource_api_server import ResourceApiServer

TAG = "1"
IMAGE = f"azaion-bench:{TAG}"


@dataclass(frozen=True)
class Device:
    """An engine, an API and an archive of IMAGE for them."""

    engine: Engine
    api: ResourceApiServer
    archive: Path

    def loader(self, directory: Path, mode: str) -> AbstractContextManager[LoaderServer]:
        """Start a loader for this archive and engine. It gets a link to the archive in a directory of its own."""
        archive = directory.with_name(f"{directory.name}-archive") / self.archive.name
        archive.parent.mkdir()
        os.link(self.archive, archive)
        settings = {"IMAGES_PATH": str(archive), "API_VERSION": TAG, "DOCKER_HOST": self.engine.host}
        return loader(directory, self.api, UNLOCK_MODE=mode, **settings)

    def lock(self) -> None:
        """Remove the image, so that the next unlock does all its work."""
        remove_image(self.engine, IMAGE)
        self.archive.touch()  # a loader does nothing for an archive that it has unlocked before


def device(work: Workload, running: ExitStack, place: Path) -> Device:
    """Return a new device whose image contains the workload's data and is in the engine. Raises Missing."""
    engine = running.enter_context(private_dockerd())
    api = running.enter_context(resource_api(place / "api"))
    make_image(engine, work.data, place)
    # Use a directory of its own, because the end of the benchmark searches that directory for secrets.
    key, archive = new_key(place), place / "device" / "images.enc"
    archive.parent.mkdir()
    run(pack_command(key, archive), env=clean_env(place, DOCKER_HOST=engine.host))
    api.set_fragment(key.read_bytes())
    return Device(engine, api, archive)


def make_image(engine: Engine, data: Path, place: Path) -> None:
    """Import IMAGE, with one layer that contains `data`, into the engine, by way of a file in `place`."""
    root = place / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.add(data, "data.bin")
    engine.client.api.import_image_from_file(str(root), repository=IMAGE)
    root.unlink()


def new_key(place: Path) -> Path:
    """Write a new key fragment into `place`. Return its path."""
    key = place / "fragment.key"
    run(python("loader", "key", "new", "-o", key))
    return key


def pack_command(key: Path, archive: Path) -> list[str]:
    """Return the command that packs IMAGE from the engine DOCKER_HOST into `archive`."""
    return python("loader", "images", "pack", IMAGE, "--key", key, "-o", archive)


def docker(engine: Engine) -> list[str]:
    """Return the command line of Docker for this engine. Raises Missing."""
    require_program("docker")
    return ["docker", "--host", engine.host]
