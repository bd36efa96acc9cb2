"""The images of an engine that the caller names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def ambiguities(engine: DockerEngine, found: Mapping[str, tuple[str, EngineImage]]) -> Iterator[str]:
    """Yield a warning for each image of `find_images` whose full name stands for another image of the engine.

    podman keeps `localhost/app:1` beside `docker.io/library/app:1`, and takes `app:1` for the first.
    """
    for reference, (name, image) in found.items():
        other = engine.find(reference)
        if other is not None and other.id != image.id:
            yield f"{name} is packed as {reference}, but the engine has another image under that full name"
