"""The previous release: its images stay in the engine under names of the loader, and `images back` returns to it.

The names move together, below the guard of `Rollback`: after a kill at any moment all of them are old or all are new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from loader.crypto.archive_head import Image, StoredHead
from loader.docker_engine import Absent, DockerEngine, EngineImage
from loader.errors import ImageMismatch, NoWayBack
from loader.oci import Layout
from loader.references import LOADER_DOMAIN
from loader.settings import Settings
from loader.unlock.layers import Chain, to_unpack
from loader.unlock.remembered import ProvenRelease, Remembered
from loader.unlock.rollback import Rollback

PREVIOUS = f"{LOADER_DOMAIN}/previous"
# For how long the engine may still give a name if its response to that request was lost.
WATCH_SECONDS = 2.0
MOVED_HINT = "Give that image another name, or remove this name, and try again."


@dataclass(frozen=True)
class Exchange:
    """Two releases of which `present` has taken the place of `former`. `names` are the names that have moved."""

    present: ProvenRelease
    former: ProvenRelease
    names: tuple[str, ...]


@dataclass
class Renaming:
    """Names that shall move in the engine, each with the ID of the image that it shall stand for; None removes it.

    `guarded` is what `Rollback.guard` needs to know of them.
    """

    images: dict[str, str | None] = field(default_factory=dict)
    guarded: dict[str, Iterable[str]] = field(default_factory=dict)

    def move(self, name: str, former: str | None, image: str | None) -> None:
        """Let `name`, which stands for the image with the ID `former` now, stand for `image`."""
        if former != image:
            self.images[name] = image
            # A name that goes is given back with its former image.
            self.guarded[name] = [each for each in (image or former,) if each is not None]

    def apply(self, engine: DockerEngine) -> None:
        """Move the names, but for those of images that have gone meanwhile.

        Raises EngineUnavailable and EngineRejected; then some have moved.
        """
        for name, image in self.images.items():
            with suppress(Absent):
                if image is not None:
                    engine.name(image, name)
                else:
                    engine.remove_name(name)


def pin_of(reference: str) -> str:
    """Return the name under which the previous release keeps its image of this name."""
    return f"{PREVIOUS}:{hashlib.sha256(reference.encode()).hexdigest()[:32]}"


def keep_present(engine: DockerEngine, remembered: Remembered, head: StoredHead) -> Renaming:
    """Return what makes the last release the previous one during an unlock of `head`; nothing if both are the same.

    What the engine lacks of the last release by now is not kept. Raises the errors of the engine.
    """
    renaming = Renaming()
    if remembered.present is None or remembered.is_head(head):
        return renaming
    kept = {image.reference: _id_of(engine, image.reference, image) for image in remembered.images}
    formerly = remembered.previous.images if remembered.previous is not None else ()
    for reference in {**kept, **dict.fromkeys(image.reference for image in formerly)}:
        pin = pin_of(reference)
        renaming.move(pin, _id(engine.find(pin)), kept.get(reference))
    return renaming


def exchange(settings: Settings, engine: DockerEngine, rollback: Rollback) -> Exchange:
    """Give the names of the present release to the images of the previous one, and keep the present ones instead.

    Raises NoWayBack if that cannot be or would take a name from an image of somebody else, StorageError, DiskSpace, and
    the errors of the engine. Then every name stands for what it stood for, once the engine responds.
    """
    remembered = Remembered.read(settings.model_cache_dir)
    if remembered.present is None or remembered.previous is None:
        raise NoWayBack("No other release was unlocked on this device before the present one.")
    renaming = _exchanged(engine, remembered.present, remembered.previous)
    with rollback.guard(renaming.guarded, WATCH_SECONDS, remembered.exchanged()):
        renaming.apply(engine)
        _prove(engine, remembered.previous)
    moved = (name for name in renaming.images if not name.startswith(PREVIOUS))
    return Exchange(remembered.previous, remembered.present, tuple(sorted(moved)))


def drop_previous(engine: DockerEngine, previous: ProvenRelease) -> None:
    """Remove the images of the previous release that nothing else needs. Raises the errors of the engine."""
    for image in previous.images:
        engine.drop_name(pin_of(image.reference), image.reference)


def freed_without(engine: DockerEngine, previous: ProvenRelease, there: Iterable[Chain]) -> int:
    """Return how many bytes go free at most if the previous release goes, of which layers of the chains `there` stay.

    Raises the errors of the engine.
    """
    kept = [image for image in previous.images if _id_of(engine, pin_of(image.reference), image) is not None]
    layers = to_unpack((Layout(previous.head, image, image.layers) for image in kept), there)
    return sum(previous.head.blob[layer].size for layer in dict.fromkeys(layers))


def _exchanged(engine: DockerEngine, present: ProvenRelease, previous: ProvenRelease) -> Renaming:
    """Return the names that move. Raises NoWayBack and the errors of the engine."""
    renaming = Renaming()
    ours, theirs = _by_reference(present), _by_reference(previous)
    for reference in {**ours, **theirs}:
        pin, found = pin_of(reference), engine.find(reference)
        kept, now = engine.find(pin), _id(found)
        old, new = _if_of(found, ours.get(reference)), _if_of(kept, theirs.get(reference))
        if reference in theirs and new is None:
            raise NoWayBack(f"The engine no longer has {reference} of {previous.title}, the previous one.")
        if now not in (None, old, new):
            detail = f"{reference} is neither the image of {present.title} nor that of {previous.title}."
            raise NoWayBack(detail, hint=MOVED_HINT)
        renaming.move(reference, now, new)
        renaming.move(pin, _id(kept), old)
    return renaming


def _prove(engine: DockerEngine, release: ProvenRelease) -> None:
    try:
        engine.prove(release.images)
    except ImageMismatch as exc:
        raise NoWayBack(f"Something else changes the images of {release.title} meanwhile.") from exc


def _by_reference(release: ProvenRelease) -> Mapping[str, Image]:
    return {image.reference: image for image in release.images}


def _id(found: EngineImage | None) -> str | None:
    return found.id if found is not None else None


def _if_of(found: EngineImage | None, expected: Image | None) -> str | None:
    """Return the ID of `found` if it is exactly the expected image."""
    return found.id if found is not None and expected is not None and found.has_id_of(expected) else None


def _id_of(engine: DockerEngine, name: str, image: Image) -> str | None:
    """Return the ID of `image` if `name` stands for exactly this image."""
    return _if_of(engine.find(name), image)
