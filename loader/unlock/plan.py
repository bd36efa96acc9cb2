"""What an unlock would do: which images are in the engine, what is sent to it, and whether the disks have room."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from loader.binary_split import Archive, open_archive
from loader.crypto.archive_head import Head, Image, Release
from loader.docker_engine import DockerEngine, EngineDescription, EngineImage
from loader.errors import EngineUnavailable
from loader.oci import Layout
from loader.settings import Settings
from loader.unlock.obstacles import obstacles
from loader.unlock.room import Place, Work, places

Chain = tuple[str, ...]


@dataclass(frozen=True)
class PlannedImage:
    """One image of the archive under one name, and what the engine has there.

    `present` is None if the engine did not respond, and True only if it has exactly this image. `size` is that of the
    unpacked layers in bytes.
    """

    image: Image = field(repr=False)
    size: int
    present: bool | None
    found: EngineImage | None = field(default=None, repr=False)

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
    """The whole plan. `layouts` are sent to the engine, in this order.

    `engine_answers` is False if the engine's need for room is not known. `warnings` are sentences.
    """

    archive: Path
    release: Release
    mode: str
    images: tuple[PlannedImage, ...]
    layouts: tuple[Layout, ...] = field(repr=False)
    work: Work
    places: tuple[Place, ...]
    warnings: tuple[str, ...]
    engine_answers: bool

    @property
    def done(self) -> bool:
        """Whether every image is in the engine, so that an unlock would write nothing."""
        return all(image.present for image in self.images)

    @property
    def fits(self) -> bool:
        """Whether every place has enough room and can be written to."""
        return all(place.fits and place.writable for place in self.places)


def plan_unlock(settings: Settings, engine: DockerEngine) -> UnlockPlan:
    """Return what an unlock would do now, and change nothing. Raises ArchiveNotFound, ArchiveCorrupt, StorageError."""
    with open_archive(settings.images_path) as archive:
        try:
            images = look_up_images(engine, archive)
        except EngineUnavailable:
            unknown = (PlannedImage(image, archive.head.unpacked_size(image), None) for image in archive.head.images)
            return _plan(settings, archive, tuple(unknown), None)
        description = _described(engine)
        plan = _plan(settings, archive, images, description)
        if description is None:
            return plan
        further = obstacles(engine, description, archive.head.images, done=plan.done)
        return replace(plan, warnings=(*plan.warnings, *further))


def look_up_images(
    engine: DockerEngine, archive: Archive, undone: Container[tuple[str, str]] = ()
) -> tuple[PlannedImage, ...]:
    """Look for each image of the archive in the engine, once.

    The pairs of a reference and an ID in `undone` do not count. Raises EngineUnavailable or EngineRejected.
    """
    return tuple(_planned(archive.head, image, engine.find(image.reference), undone) for image in archive.head.images)


def make_plan(
    settings: Settings, engine: DockerEngine, archive: Archive, images: tuple[PlannedImage, ...]
) -> UnlockPlan:
    """Return the plan for an open archive with the `images` that were just looked up. Raises StorageError."""
    return _plan(settings, archive, images, _described(engine))


def layouts_of(head: Head, present: set[str]) -> Iterator[Layout]:
    """Yield a layout for each image that the engine lacks under all of its names.

    Layers at the bottom of its chain that an earlier layout brings are left out, because the engine has them by then.
    """
    brought: set[Chain] = set()
    for names in head.distinct_images:
        if not any(image.reference in present for image in names):
            image = names[0]
            yield Layout(head, image, image.layers[_known(image.layers, brought) :])
            brought.update(_chains([image.layers]))


def _described(engine: DockerEngine) -> EngineDescription | None:
    """Return what the engine tells about itself; None if it went down."""
    try:
        return engine.describe()
    except EngineUnavailable:
        return None


def _plan(
    settings: Settings, archive: Archive, images: tuple[PlannedImage, ...], engine: EngineDescription | None
) -> UnlockPlan:
    head = archive.head
    layouts = tuple(layouts_of(head, {image.reference for image in images if image.present}))
    # A layer is there if an image of the engine has it on top of the same layers, whatever the image is.
    there = [image.found.layers for image in images if image.found is not None]
    sizes = [layout.size for layout in layouts]
    work = Work(
        to_read=sum(head.blob[digest].stored_size for layout in layouts for digest in layout.blobs),
        to_send=sum(sizes),
        largest=max(sizes, default=0),
        to_unpack=sum(head.blob[digest].size for digest in _to_unpack(layouts, there)),
    )
    return UnlockPlan(
        archive=archive.path,
        release=head.release,
        mode=settings.unlock_mode,
        images=images,
        layouts=layouts,
        work=work,
        places=places(settings, work, engine),
        warnings=tuple(_warnings(head, engine)) if engine is not None else (),
        engine_answers=all(image.present is not None for image in images),
    )


def _planned(
    head: Head, expected: Image, found: EngineImage | None, undone: Container[tuple[str, str]]
) -> PlannedImage:
    present = found is not None and found.is_image_of(expected) and (expected.reference, found.id) not in undone
    return PlannedImage(expected, head.unpacked_size(expected), present, found)


def _to_unpack(layouts: Iterable[Layout], there: Iterable[Chain]) -> Iterator[str]:
    """Yield each layer that the engine will unpack."""
    known = _chains(there)
    for layout in layouts:
        layers = layout.image.layers
        yield from layers[_known(layers, known) :]
        known |= _chains([layers])


def _chains(chains: Iterable[Chain]) -> set[Chain]:
    return {chain[:length] for chain in chains for length in range(1, len(chain) + 1)}


def _known(layers: Chain, chains: set[Chain]) -> int:
    """Return how many layers at the bottom of `layers` are one of `chains`."""
    return max((length for length in range(len(layers) + 1) if layers[:length] in chains), default=0)


def _warnings(head: Head, engine: EngineDescription) -> Iterator[str]:
    for image, *_ in head.distinct_images:
        if not engine.runs(image.platform):
            yield f"{image.reference} is made for {image.platform}, but the engine runs {engine.platform}."
