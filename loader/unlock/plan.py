"""The plan of an unlock: which images are in the engine, what is sent to it, and whether the disks have room."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from loader.binary_split import Archive
from loader.crypto.archive_head import Head, Image
from loader.docker_engine import DockerEngine, EngineDescription, EngineImage
from loader.errors import EngineUnavailable
from loader.oci import Layout
from loader.references import split_tag
from loader.settings import Settings
from loader.unlock.checks import PlannedFailure
from loader.unlock.layers import Base, find_bases, layouts_of, to_unpack
from loader.unlock.previous import freed_without
from loader.unlock.release_mark import KnownRelease, ReleaseMark
from loader.unlock.remembered import Remembered
from loader.unlock.room import JOURNAL_SIZE, Place, Work, places


@dataclass(frozen=True)
class PlannedImage:
    """One image of the archive under one name, and what the engine has there.

    `present` is None if the engine did not respond, and True only if it has exactly this image. `size` is that of the
    unpacked layers in bytes, and `to_send` says how many bytes the engine gets under this name. `update` says whether
    the engine has another image under this name, or under that of the last unlock of the same repository.
    """

    image: Image = field(repr=False)
    size: int
    present: bool | None
    found: EngineImage | None = field(default=None, repr=False)
    to_send: int = 0
    update: bool = False

    @property
    def reference(self) -> str:
        """The full name of the image."""
        return self.image.reference

    @property
    def config(self) -> str:
        """The digest of its configuration, which is its ID in most engines."""
        return self.image.config

    @property
    def platform(self) -> str:
        """The platform that it was built for."""
        return self.image.platform

    @property
    def created(self) -> str:
        """The time at which it was built."""
        return self.image.created


@dataclass(frozen=True)
class UnlockPlan:
    """The whole plan. `layouts` are sent to the engine, in this order, without layers that `bases` have.

    `failure` is the error of the first check that fails, of all that an unlock makes before its login. Without an
    archive `release` is None.

    `older_than` is the newest release that became ready here, if the unlock is refused because `release` is older.
    `seconds` is how long it will take, None if this device cannot know. `engine_answers` is False if the engine's need
    for room is not known. `warnings` are sentences.
    """

    archive: Path
    release: KnownRelease | None
    older_than: KnownRelease | None
    mode: str
    images: tuple[PlannedImage, ...]
    layouts: tuple[Layout, ...] = field(repr=False)
    bases: tuple[Base, ...] = field(repr=False)
    work: Work
    seconds: float | None
    places: tuple[Place, ...]
    warnings: tuple[str, ...]
    engine_answers: bool
    failure: PlannedFailure | None = None

    @property
    def done(self) -> bool:
        """Whether every image is in the engine, so that an unlock would write nothing."""
        return all(image.present for image in self.images)

    @property
    def fits(self) -> bool:
        """Whether every place has enough room and can be written to."""
        return all(place.fits and place.writable for place in self.places)

    @property
    def drops_previous(self) -> bool:
        """Whether the unlock fits only without the images of the previous release, which then go."""
        return any(place.needs_spare for place in self.places)


def look_up_images(
    engine: DockerEngine, head: Head, undone: Container[tuple[str, str]] = ()
) -> tuple[PlannedImage, ...]:
    """Look for each image of a head in the engine, once.

    The pairs of a reference and an ID in `undone` do not count. Raises EngineUnavailable or EngineRejected.
    """
    return tuple(_planned(head, image, engine.find(image.reference), undone) for image in head.images)


def runnable_images(engine: DockerEngine, images: Iterable[PlannedImage]) -> tuple[PlannedImage, ...]:
    """Return `images` with the proof that the engine can run those that it has: one that it cannot run is not present.

    Makes containers where the engine does not tell, so that only an authenticated archive may ask for it. Raises the
    errors of `DockerEngine.can_run`.
    """
    return tuple(map(partial(_proven, engine), images))


def described(engine: DockerEngine) -> EngineDescription | None:
    """Return what the engine tells about itself; None if it went down."""
    try:
        return engine.describe()
    except EngineUnavailable:
        return None


def make_plan(
    settings: Settings,
    archive: Archive,
    images: tuple[PlannedImage, ...],
    engine: DockerEngine | None,
    description: EngineDescription | None,
) -> UnlockPlan:
    """Return the plan for an open archive with the `images` that were just looked up.

    `engine` and `description` are None if the engine does not respond. Raises StorageError, and errors of the engine.
    """
    head, remembered = archive.head, Remembered.read_if_sound(settings.model_cache_dir)
    release = KnownRelease.of(archive.index.stored)
    newest = ReleaseMark.read(settings.model_cache_dir, remembered).newer_than(release)
    present = {image.reference for image in images if image.present}
    found = {image.reference: image.found for image in images}
    bases: tuple[Base, ...] = ()
    if engine is not None and description is not None and len(present) < len(images):
        # The names of the last unlock may have other tags than those of this archive.
        former = [image.reference for image in remembered.images if image.reference not in found]
        found |= {reference: engine.find(reference) for reference in former}
        bases = tuple(find_bases(description.store, found, remembered.images))
    layouts = tuple(layouts_of(head, present, bases))
    there = [image.layers for image in found.values() if image is not None]
    work = _work(head, layouts, there, done=len(present) == len(images))
    places_ = places(settings, work, description)
    if engine is not None and description is not None and not all(place.fits for place in places_):
        places_ = _with_spare(places_, engine, description, remembered, there)
    pace = remembered.pace if layouts and remembered.pace and remembered.pace.mode == settings.unlock_mode else None
    return UnlockPlan(
        archive=archive.path,
        release=release,
        older_than=newest,
        mode=settings.unlock_mode,
        images=tuple(_compared(image, layouts, found) for image in images),
        layouts=layouts,
        bases=bases,
        work=work,
        seconds=pace.seconds(work) if pace is not None else None,
        places=places_,
        warnings=(*_platform_warnings(head, description), *_previous_warnings(places_, remembered)),
        engine_answers=all(image.present is not None for image in images),
    )


def _compared(
    planned: PlannedImage, layouts: Iterable[Layout], found: Mapping[str, EngineImage | None]
) -> PlannedImage:
    """Return the image with what is sent for it, and whether it takes the place of one that was `found`."""
    sent = sum(layout.size for layout in layouts if layout.image.reference == planned.reference)
    repository = split_tag(planned.reference)[0]
    there = any(split_tag(reference)[0] == repository for reference, image in found.items() if image is not None)
    return replace(planned, to_send=sent, update=there and planned.present is False)


def _work(head: Head, layouts: Sequence[Layout], there: Iterable[tuple[str, ...]], *, done: bool) -> Work:
    """Return the work of an unlock. A layer is `there` if an image has it on top of the same layers, whatever it is."""
    sizes = [layout.size for layout in layouts]
    return Work(
        to_read=sum(head.blob[digest].stored_size for layout in layouts for digest in layout.blobs),
        to_send=sum(sizes),
        largest=max(sizes, default=0),
        to_unpack=sum(head.blob[digest].size for digest in to_unpack(layouts, there)),
        journal=0 if done else JOURNAL_SIZE,
    )


def _planned(
    head: Head, expected: Image, found: EngineImage | None, undone: Container[tuple[str, str]]
) -> PlannedImage:
    if found is not None and (expected.reference, found.id) in undone:
        # It may go at any moment, and its layers with it.
        found = None
    present = found is not None and found.is_image_of(expected)
    return PlannedImage(expected, head.unpacked_size(expected), present, found)


def _proven(engine: DockerEngine, planned: PlannedImage) -> PlannedImage:
    if planned.found is None or not planned.found.needs_container(planned.image):
        return planned
    if engine.can_run(planned.image):
        return replace(planned, present=True)
    # What the engine has of the layers is not known.
    return replace(planned, present=False, found=None)


def _with_spare(
    places_: tuple[Place, ...],
    engine: DockerEngine,
    description: EngineDescription,
    remembered: Remembered,
    there: Iterable[tuple[str, ...]],
) -> tuple[Place, ...]:
    """Return the places with what the previous release takes of the engine's disk."""
    if remembered.previous is None:
        return places_
    spare = freed_without(engine, remembered.previous, there)
    return tuple(replace(place, spare=spare) if description.root in place.paths else place for place in places_)


def _previous_warnings(places_: Iterable[Place], remembered: Remembered) -> Iterator[str]:
    if remembered.previous is not None and any(place.needs_spare for place in places_):
        yield (
            f"There is room only without the images of {remembered.previous.title}, which the unlock removes: "
            "images back cannot return to that release afterwards."
        )


def _platform_warnings(head: Head, engine: EngineDescription | None) -> Iterator[str]:
    for image, *_ in head.distinct_images if engine is not None else ():
        if engine is not None and not engine.runs(image.platform):
            yield f"{image.reference} is made for {image.platform}, but the engine runs {engine.platform}."
