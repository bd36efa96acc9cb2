"""The images of an engine that the caller names."""

from __future__ import annotations

from collections.abc import Mapping

from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import ImageNotFound
from loader.references import DEFAULT_TAG, split_tag


def find_images(engine: DockerEngine, names: Mapping[str, str]) -> dict[str, tuple[str, EngineImage]]:
    """Return, by the full references of `names`, the name that the engine knows and its image. Raises ImageNotFound.

    The engine is asked for what the caller wrote, because podman puts names without a registry below `localhost`.
    """
    found = {}
    for reference, written in names.items():
        name = written if split_tag(written)[1] is not None else f"{written}:{DEFAULT_TAG}"
        image = engine.find(name)
        if image is None:
            raise ImageNotFound(f"The Docker engine has no image {name}.")
        found[reference] = (name, image)
    return found
