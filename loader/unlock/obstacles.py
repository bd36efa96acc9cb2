"""What stands in the way of an unlock, or of its images afterwards: sentences for the warnings of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from loader.crypto.archive_head import Image
from loader.docker_engine import DockerEngine, EngineDescription, Store
from loader.errors import LoaderError
from loader.references import short_reference


def obstacles(
    engine: DockerEngine, description: EngineDescription, images: Iterable[Image], *, done: bool
) -> Iterator[str]:
    """Yield a sentence for each request that a proxy will refuse, and for each image that hides one of `images`.

    With `done` an unlock will send nothing more that a proxy could refuse. Nothing is changed in the engine.
    """
    # The plan is good without these warnings.
    with suppress(LoaderError):
        if not done:
            yield from map(str, engine.refusals(description.store))
        if description.store is Store.PODMAN:
            yield from _hidden(engine, images)


def _hidden(engine: DockerEngine, images: Iterable[Image]) -> Iterator[str]:
    for image in images:
        short = short_reference(image.reference)
        # podman takes a short name for one below localhost first, and only then for one of Docker Hub.
        local = engine.find(f"localhost/{short}") if short is not None else None
        if local is not None and not local.is_image_of(image):
            yield (
                f"The engine also has another image localhost/{short}, and podman takes {short} for that one: "
                f"remove it, or name {image.reference} in full."
            )
