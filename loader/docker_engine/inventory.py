"""All images of the engine: their names, and whether containers use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loader.docker_engine.connection import Connection
from loader.docker_engine.description import nonsense_refused, with_algorithm
from loader.references import MalformedReference, full_reference


@dataclass(frozen=True)
class StoredImage:
    """An image in the list of all images.

    `names` are full references. `size` is in bytes, and counts layers that other images have too. `is_used` says
    whether there is a container of it, which need not run. `is_dangling` says whether the engine's own command
    `image prune` takes it for one without a name.
    """

    id: str
    names: tuple[str, ...]
    size: int
    is_used: bool
    is_dangling: bool


def stored_images(connection: Connection) -> tuple[StoredImage, ...]:
    """Return all images of the engine. Raises EngineUnavailable, EngineRejected or DiskSpace."""
    api = connection.queries
    with connection.faults():
        listed = api.images()
        dangling = api.images(filters={"dangling": True})
        # Asked for last, because an image without a container may have got one in the meantime.
        containers = api.containers(all=True)
    with nonsense_refused():
        unnamed = {with_algorithm(image["Id"]) for image in dangling}
        used = {with_algorithm(container["ImageID"]) for container in containers}
        return tuple(_read(image, used, unnamed) for image in listed)


def _read(listed: dict[str, Any], used: set[str], dangling: set[str]) -> StoredImage:
    image_id = with_algorithm(listed["Id"])
    names = tuple(name for tag in listed["RepoTags"] or () if (name := _full(tag)) is not None)
    return StoredImage(image_id, names, int(listed["Size"]), image_id in used, image_id in dangling)


def _full(tag: str) -> str | None:
    try:
        return full_reference(tag)
    except MalformedReference:
        # Docker 20.10 lists an image without a name under `<none>:<none>`.
        return None
