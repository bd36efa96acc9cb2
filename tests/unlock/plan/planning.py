"""Plans of an archive of two images, for engines whose images a test chooses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from loader.docker_engine import DockerEngine, EngineDescription, EngineImage, Store
from loader.errors import LoaderError
from loader.settings import Settings
from loader.unlock.plan import UnlockPlan
from loader.unlock.preview import plan_unlock
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

MIB = 1 << 20
BASE = HandmadeLayer(b"b" * 1000, 50, "base.bin")
MIDDLE = HandmadeLayer(b"m" * 1000, 30, "middle.bin")
TOP = HandmadeLayer(b"t" * 1000, 70, "top.bin")
APP = HandmadeImage("app:1.4", (BASE, MIDDLE, TOP))
DATABASE = HandmadeImage("database:9", (BASE,))
OTHER_ID = "sha256:" + "2" * 64
AMD64 = EngineDescription(None, Store.CLASSIC, "linux/amd64")


class KnownEngine(DockerEngine):
    """Has the given images by their names, without a connection."""

    def __init__(self, images: dict[str, EngineImage], description: EngineDescription = AMD64) -> None:
        super().__init__(1)
        self._images = images
        self._description = description

    def find(self, reference: str) -> EngineImage | None:
        return self._images.get(reference)

    def describe(self) -> EngineDescription:
        return self._description

    def refusals(self, _: Store) -> tuple[LoaderError, ...]:
        return ()


EMPTY = KnownEngine({})


def plan(path: Path, engine: DockerEngine, mode: str = "tar", models: Path | None = None) -> UnlockPlan:
    """Return the plan of the archive at `path` for `engine`, on a device that may have remembered something."""
    settings = Settings.from_env({"UNLOCK_MODE": mode})
    models = models or path.parent / "models"
    return plan_unlock(dataclasses.replace(settings, images_path=path, model_cache_dir=models), engine)


def found(image: HandmadeImage, image_id: str | None = None) -> EngineImage:
    """Return `image` as an engine describes it, by default as one that has exactly this image."""
    return EngineImage(image_id or image.image.config, image.image.layers, 77)


def having(*images: EngineImage) -> KnownEngine:
    """Return an engine that has these images under the names of `APP` and `DATABASE`."""
    return KnownEngine(dict(zip((APP.image.reference, DATABASE.image.reference), images, strict=False)))


def sizes(*layers: HandmadeLayer) -> int:
    """Return the size of all `layers` in bytes, unpacked."""
    return sum(layer.described[1] for layer in layers)


def needs(made: UnlockPlan) -> dict[tuple[Path, ...], int]:
    """Return the room that each place needs, in bytes."""
    return {place.paths: place.needed for place in made.places}


def sent(made: UnlockPlan) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name and the layers of each layout of the plan."""
    return [(layout.image.reference, layout.layers) for layout in made.layouts]


def digests(*layers: HandmadeLayer) -> tuple[str, ...]:
    """Return the digests of `layers`."""
    return tuple(layer.described[0] for layer in layers)
