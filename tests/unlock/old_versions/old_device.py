"""A device whose engine has several versions of its images, and images of others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import docker.errors

from loader.crypto.archive_head import StoredHead
from loader.docker_engine import DockerEngine
from loader.references import full_reference
from loader.settings import Settings
from loader.unlock.journal import PINS
from loader.unlock.old_versions import OldVersions, find_old_versions, remove_old_versions
from loader.unlock.remembered import remember
from tests.support.archives import PREFIX, head_of, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.inventory import Inventory

# The bytes of the file in each image; engines count a little more or nothing more than it.
SIZE = 100_000
PIN = f"{PINS}:{'a' * 32}"


def version(tag: str, name: str = "app") -> HandmadeImage:
    """Return an image under the full name, because podman puts short ones below `localhost`."""
    content = HandmadeLayer(f"{name} {tag}".encode().ljust(SIZE, b"."), name=f"{name}.bin")
    return HandmadeImage(full_reference(f"{PREFIX}{name}:{tag}"), (content,), {"Labels": {"version": tag}})


UNLOCKED, NEXT = version("1.4"), version("1.5")
OLD, OLDER = version("1.3"), version("1.2")
# Names that only look like those of the device, and one of a repository that no archive ever named.
FOREIGN = (version("1.3", "app-extra"), version("1.3", "ap"), version("1.3", "app/inner"))


class DeviceFiles:
    """The files of a device in `directory`. Its last unlock was of UNLOCKED, and its archive has NEXT."""

    def __init__(self, directory: Path) -> None:
        self.models = directory / "models"
        self.models.mkdir()
        self.remembered = self.models / "unlocked-manifest.json"
        self.journal = self.models / "unlock-journal.json"
        self.archive = seal(directory / "images.enc", [NEXT])
        unlocked = seal(directory / "unlocked.enc", [UNLOCKED])
        remember(self.models, StoredHead.of(head_of(unlocked)))

    @property
    def env(self) -> dict[str, str]:
        """The variables of the loader that name these files."""
        return {"IMAGES_PATH": str(self.archive), "MODEL_CACHE_DIR": str(self.models)}

    def settings(self, **env: str) -> Settings:
        """The settings of the loader, with `env` beside them."""
        return Settings.from_env({**self.env, **env})


class OldDevice(DeviceFiles):
    """A device in front of `engine`, which has what a test puts there. DOCKER_HOST must name the engine."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        super().__init__(directory)
        self.engine = engine
        self._containers: list[str] = []
        self._loader_engine = DockerEngine(60)

    def put(self, *images: HandmadeImage) -> None:
        """Load images into the engine."""
        for image in images:
            list(self.engine.client.api.load_image(b"".join(docker_archive(image))))

    def name(self, image: HandmadeImage, reference: str) -> None:
        """Give an image of the engine a further name."""
        self.engine.client.api.tag(image.reference, *reference.rsplit(":", 1))

    def use(self, image: HandmadeImage) -> str:
        """Create a container, which need not run to use its image."""
        self._containers.append(self.engine.client.api.create_container(image.reference, "/nothing")["Id"])
        return self._containers[-1]

    def find(self) -> OldVersions:
        """Return the old versions."""
        return find_old_versions(self.settings(), self._loader_engine)

    def remove(self, old: OldVersions) -> dict[str, str]:
        """Remove `old`, and return what the engine has refused."""
        return remove_old_versions(self.settings(), self._loader_engine, old)

    def names(self) -> set[str]:
        """Return all names in the engine."""
        return set(Inventory.of(self.engine).names)

    def clean(self) -> None:
        """Remove what a test has put into the engine."""
        for container in self._containers:
            with suppress(docker.errors.NotFound):
                self.engine.client.api.remove_container(container)
        remove_all_images(self.engine)
