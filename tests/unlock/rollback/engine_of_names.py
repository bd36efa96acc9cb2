"""An engine that only knows names and images, and that a test kills at any call. The other tests use real engines.

Fake, because a kill at each call of a real engine would take hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loader.docker_engine import Absent, DockerEngine, EngineImage
from loader.errors import EngineRejected, EngineUnavailable

REFERENCES = [f"docker.io/azaion-test/app:{number}" for number in range(3)]
FOREIGN = "docker.io/library/foreign:1"


class Killed(BaseException):
    """The process was killed at this place."""


def image_id(number: int) -> str:
    """Return the ID of an image."""
    return f"sha256:{number:064x}"


@dataclass(frozen=True)
class Inventory:
    """All that an engine holds: its names, and its images with and without a name."""

    names: Mapping[str, str]
    images: frozenset[str]


@dataclass
class EngineOfNames(DockerEngine):
    """`names` maps each name to the ID of its image. `used` are the IDs that a container uses, and `proven`
    those that the container of a proof uses.

    Like the containerd store, an engine that `forgets` drops an image whose last name moves. The call before which
    `calls_left` is used up raises `ends_with`, and every later one too. `refused` maps names that no call may change
    to what it raises. It tells nothing of the images in `half_written`. `calls_refused` counts calls after the last one
    that was left.
    """

    names: dict[str, str]
    forgets: bool = False
    used: frozenset[str] = frozenset()
    proven: frozenset[str] = frozenset()
    images: set[str] = field(default_factory=set)
    calls_left: int = 1 << 30
    ends_with: BaseException = field(default_factory=Killed)
    refused: Mapping[str, Exception] = field(default_factory=dict)
    half_written: frozenset[str] = frozenset()
    calls_refused: int = 0

    def __post_init__(self) -> None:
        self.images |= set(self.names.values())

    def inventory(self) -> Inventory:
        """Return what is there now."""
        return Inventory(dict(self.names), frozenset(self.images))

    def find(self, reference: str) -> EngineImage | None:
        self._count()
        found = self._resolved(reference)
        if reference in self.half_written:
            raise EngineRejected(f"failed to convert {reference}")
        return None if found is None else EngineImage(found, (), 1, named=found in self.names.values())

    def name(self, present: str, reference: str) -> None:
        self._count(reference)
        found = self._resolved(present)
        if found is None:
            raise Absent(f"no image {present}")
        self.put(reference, found)

    def remove_name(self, reference: str) -> None:
        self._count(reference)
        found = self._resolved(reference)
        if found is None:
            raise Absent(f"no image {reference}")
        if found in self.used | self.proven and list(self.names.values()).count(found) <= 1:
            raise EngineRejected(f"a container uses {reference}")
        self.names.pop(reference, None)
        if found not in self.names.values():
            self.images.discard(found)

    def remove_proofs(self) -> None:
        self._count()
        self.proven = frozenset()

    def put(self, reference: str, image: str) -> None:
        """Let `reference` name an image, as a load does."""
        before = self.names.get(reference)
        self.names[reference] = image
        self.images.add(image)
        if self.forgets and before is not None and before not in {*self.names.values(), *self.used, *self.proven}:
            self.images.discard(before)

    def _resolved(self, name: str) -> str | None:
        return self.names.get(name) or (name if name in self.images else None)

    def _count(self, changed: str = "") -> None:
        if changed in self.refused:
            raise self.refused[changed]
        if self.calls_left <= 0:
            self.calls_refused += 1
            raise self.ends_with
        self.calls_left -= 1


def engine_with(images: Sequence[str | None], *, forgets: bool = False, used: bool = False) -> EngineOfNames:
    """Return an engine in which REFERENCES name `images`. A container uses the first image if `used` is set."""
    named = {name: image for name, image in zip(REFERENCES, images, strict=True) if image is not None}
    used_images = frozenset({image_id(1)} if used and image_id(1) in named.values() else ())
    return EngineOfNames({FOREIGN: image_id(7), **named}, forgets, used_images)


def gone() -> EngineUnavailable:
    """Return the error of an engine that is down."""
    return EngineUnavailable("The Docker engine does not respond.")
