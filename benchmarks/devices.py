"""A device to unlock: an engine of its own, an image and its archive."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import TAG, new_key, pack_command
from benchmarks.peers import require_program, run
from benchmarks.servers import loader
from tests.support.engines import Engine
from tests.support.images import remove_image
from tests.support.loader_server import LoaderServer
from tests.support.processes import clean_env
from tests.support.resource_api_server import ResourceApiServer


@dataclass(frozen=True)
class Device:
    """An engine, an API and an archive of the image `name` for them."""

    engine: Engine
    api: ResourceApiServer
    archive: Path
    name: str

    def loader(self, directory: Path, mode: str) -> AbstractContextManager[LoaderServer]:
        """Start a loader for this archive and engine. It gets a link to the archive in a directory of its own."""
        archive = directory.with_name(f"{directory.name}-archive") / self.archive.name
        archive.parent.mkdir()
        os.link(self.archive, archive)
        settings = {"IMAGES_PATH": str(archive), "API_VERSION": TAG, "DOCKER_HOST": self.engine.host}
        return loader(directory, self.api, UNLOCK_MODE=mode, **settings)

    def lock(self) -> None:
        """Remove the image, so that the next unlock does all its work."""
        remove_image(self.engine, self.name)
        self.archive.touch()  # a loader does nothing for an archive that it has unlocked before


def packed_device(engine: Engine, api: ResourceApiServer, name: str, place: Path, *options: str) -> Device:
    """Pack the image `name` with the options of `images pack`, and return the device that is to unlock it."""
    # Use a directory of its own, because the end of the benchmark searches that directory for secrets.
    key, archive = new_key(place), place / "device" / "images.enc"
    archive.parent.mkdir()
    run(pack_command(key, archive, name, *options), env=clean_env(place, DOCKER_HOST=engine.host))
    api.set_fragment(key.read_bytes())
    return Device(engine, api, archive, name)


def docker(engine: Engine) -> list[str]:
    """Return the command line of Docker for this engine. Raises Missing."""
    require_program("docker")
    return ["docker", "--host", engine.host]
