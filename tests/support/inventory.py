"""What an engine has: its names, images, containers and volumes, compared before and after an unlock that fails."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import docker.errors

from loader.crypto.archive_head import Image
from loader.references import full_reference
from tests.support.engines import RUNNING, Engine
from tests.support.processes import poll
from tests.support.recording_proxy import UPSTREAMS

ANSWER_SECONDS = 10.0
# How the containerd store of Docker calls itself.
CONTAINERD = ["driver-type", "io.containerd.snapshotter.v1"]


@dataclass(frozen=True)
class Inventory:
    """Everything that a test or an unlock may change in an engine.

    names: the ID of the image that each full reference names.
    images: the IDs of all images, also of those without a name.
    containers: the state of each container by its ID.
    volumes: the names of all volumes.
    """

    names: dict[str, str]
    images: frozenset[str]
    containers: dict[str, str]
    volumes: frozenset[str]

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Ask `engine`, past every proxy."""
        found: list[Self] = []

        def is_told() -> bool:
            with suppress(docker.errors.APIError):  # podman cannot list the images while one of them is removed
                found.append(cls._told(engine))
            return bool(found)

        poll(is_told, ANSWER_SECONDS, "the engine tells what it has")
        return found[0]

    @classmethod
    def _told(cls, engine: Engine) -> Self:
        api = engine.client.api
        images = [(with_algorithm(image["Id"]), names_of(image)) for image in api.images(all=True)]
        return cls(
            names={name: id_ for id_, names in images for name in names},
            images=frozenset(id_ for id_, _ in images),
            containers={container["Id"]: container["State"] for container in api.containers(all=True)},
            volumes=frozenset(volume["Name"] for volume in api.volumes()["Volumes"] or []),
        )

    def without(self, other: Inventory) -> Inventory:
        """Return what is only here, or here under another ID or in another state."""
        return Inventory(
            names=dict(self.names.items() - other.names.items()),
            images=self.images - other.images,
            containers=dict(self.containers.items() - other.containers.items()),
            volumes=self.volumes - other.volumes,
        )


class UnlockComparison:
    """Compares the inventory of the engine behind `host` before a run with that after the run, if the run has failed.

    Compares nothing if `host` leads to no engine of the tests, but to a fake or to an engine of the machine.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._before: Inventory | None = None
        self._left_out = ""

    def leave_out(self, reason: str) -> None:
        """Do not compare after the next run, because of `reason`."""
        self._left_out = reason

    def start(self) -> None:
        """Take the inventory before a run."""
        engine = None if self._left_out else engine_behind(self._host)
        self._before = Inventory.of(engine) if engine is not None else None

    def end(self, error: str | None) -> None:
        """Require after a run that has failed with `error` that the engine has what it had before."""
        before, engine = self._before, engine_behind(self._host)
        self._before, self._left_out = None, ""
        if error is not None and before is not None and engine is not None:
            require_inventory(engine, before, because=f"after an unlock that failed: {error}")


def engine_behind(host: str) -> Engine | None:
    """Return the engine of the tests that requests to `host` reach, also through proxies of the tests."""
    while host in UPSTREAMS:
        host = UPSTREAMS[host]
    return RUNNING.get(host)


def require_inventory(engine: Engine, expected: Inventory, within: float = 0, because: str = "") -> None:
    """Require that `engine` has exactly what is expected, at once or within some seconds."""
    with suppress(AssertionError):
        poll(lambda: Inventory.of(engine) == expected, within, "the engine has what is expected")
    found = Inventory.of(engine)
    assert found == expected, f"{because}\nmore: {found.without(expected)}\nless: {expected.without(found)}"


def id_in(engine: Engine, image: Image) -> str:
    """Return the ID that an image must have: the digest of its manifest in a containerd store, else its config's."""
    return image.manifest if CONTAINERD in engine.client.info()["DriverStatus"] else image.config


def names_of(listed: dict[str, Any]) -> list[str]:
    """Return the full names of an image; Docker 20.10 gives one without a name the name `<none>:<none>`."""
    return [full_reference(tag) for tag in listed["RepoTags"] or [] if not tag.startswith("<none>")]


def with_algorithm(image_id: str) -> str:
    """Return an ID in the form of Docker; podman leaves out the name of the algorithm."""
    return f"sha256:{image_id.removeprefix('sha256:')}"
