"""What an unlock would do: which images are in the engine, how many bytes go to which disk, and whether they fit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from loader.binary_split import Archive, open_archive
from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import DiskSpace, EngineUnavailable, StorageError
from loader.files import free_bytes, storage
from loader.settings import Settings
from loader.unlock.delivery import tar_path

# The engine unpacks a copy of the tar before it makes layers from it.
ENGINE_COPIES = 2
STREAM_ADVICE = "UNLOCK_MODE=stream would need less: it writes no tar."


@dataclass(frozen=True)
class Place:
    """A disk that the unlock writes to. `needed` and `free` are bytes, `paths` are the directories on that disk."""

    paths: tuple[Path, ...]
    needed: int
    free: int
    writable: bool

    @property
    def fits(self) -> bool:
        """Whether the disk has enough room."""
        return self.free >= self.needed


@dataclass(frozen=True)
class PlannedImage:
    """One image of the archive.

    `present` is None if the engine did not respond. `size` is in bytes, and None unless the image is present.
    """

    reference: str
    id: str
    created: str
    present: bool | None
    size: int | None


@dataclass(frozen=True)
class UnlockPlan:
    """The whole plan. `tar_size` is in bytes. `engine_answers` is False if the engine's need for room is not known."""

    archive: Path
    created: str
    tar_size: int
    mode: str
    images: tuple[PlannedImage, ...]
    places: tuple[Place, ...]
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
            return _plan_without_engine(settings, archive)
        return make_plan(settings, engine, archive, images)


def look_up_images(engine: DockerEngine, archive: Archive) -> tuple[PlannedImage, ...]:
    """Look for each image of the archive in the engine, once. Raises EngineUnavailable or EngineRejected."""
    return tuple(_planned(image, engine.find(image.reference)) for image in archive.manifest.images)


def make_plan(
    settings: Settings, engine: DockerEngine, archive: Archive, images: tuple[PlannedImage, ...]
) -> UnlockPlan:
    """Return the plan for an open archive with the `images` that were just looked up. Raises StorageError."""
    try:
        root = engine.root_directory()
    except EngineUnavailable:
        return _plan_without_engine(settings, archive)
    return _plan(settings, archive, images, root)


def require_room(plan: UnlockPlan) -> None:
    """Raise StorageError or DiskSpace for the first place that cannot take what the unlock writes."""
    for place in plan.places:
        paths = " and ".join(map(str, place.paths))
        if not place.writable:
            raise StorageError(f"{paths} cannot be written to.", hint=_with_advice(StorageError.hint, plan.mode))
        if not place.fits:
            sentence = (
                f"There is too little room at {paths}: {place.needed} bytes are needed, {place.free} bytes are free."
            )
            raise DiskSpace(sentence, hint=_with_advice(DiskSpace.hint, plan.mode))


def _with_advice(hint: str, mode: str) -> str:
    return f"{hint} {STREAM_ADVICE}" if mode == "tar" else hint


def _plan_without_engine(settings: Settings, archive: Archive) -> UnlockPlan:
    unknown = (PlannedImage(image.reference, image.id, image.created, None, None) for image in archive.manifest.images)
    return _plan(settings, archive, tuple(unknown), None)


def _plan(
    settings: Settings, archive: Archive, images: tuple[PlannedImage, ...], engine_root: Path | None
) -> UnlockPlan:
    return UnlockPlan(
        archive=archive.path,
        created=archive.manifest.created,
        tar_size=archive.manifest.tar_size,
        mode=settings.unlock_mode,
        images=images,
        places=_places(settings, archive.manifest.tar_size, engine_root),
        engine_answers=all(image.present is not None for image in images),
    )


def _planned(expected: ManifestImage, found: EngineImage | None) -> PlannedImage:
    present = found is not None and found.is_image_of(expected)
    size = found.size if found is not None and present else None
    return PlannedImage(expected.reference, expected.id, expected.created, present, size)


def _places(settings: Settings, tar_size: int, engine_root: Path | None) -> tuple[Place, ...]:
    """Return one place for each disk, because directories on one disk share its free room."""
    tar_directory = tar_path(settings).parent
    needs: dict[Path, int] = {}
    if settings.unlock_mode == "tar":
        needs[tar_directory] = tar_size
    if engine_root is not None and _is_visible(engine_root):
        # The two needs are added, because both directories may be the same one.
        needs[engine_root] = needs.get(engine_root, 0) + ENGINE_COPIES * tar_size
    disks: dict[int, list[Path]] = {}
    for path in needs:
        with storage(path, needs[path]):
            disks.setdefault(path.stat().st_dev, []).append(path)
    return tuple(_place(paths, sum(needs[path] for path in paths), tar_directory) for paths in disks.values())


def _is_visible(engine_root: Path) -> bool:
    """Return False if the engine runs on another machine or in another container, where its disk cannot be read."""
    try:
        return engine_root.is_dir()
    except OSError:
        return False


def _place(paths: list[Path], needed: int, tar_directory: Path) -> Place:
    with storage(paths[0], needed):
        free = free_bytes(paths[0])
    writable = tar_directory not in paths or os.access(tar_directory, os.W_OK | os.X_OK)
    return Place(tuple(paths), needed, free, writable)
