"""What an unlock would do: which images, what is there already, what would be written where, and whether it fits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from loader.binary_split import Archive
from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import ArchiveNotFound, DeviceFault, DiskSpace, EngineUnavailable, StorageError
from loader.files import free_bytes, storage
from loader.settings import Settings
from loader.unlock.remembered import remembered_images

# The engine unpacks a copy of the tar before it makes layers of it.
ENGINE_COPIES = 2


@dataclass(frozen=True)
class Place:
    """A disk that the job writes to: `needed` and `free` are bytes, `paths` the directories on it."""

    paths: tuple[Path, ...]
    needed: int
    free: int
    writable: bool

    @property
    def fits(self) -> bool:
        """Whether there is room enough."""
        return self.free >= self.needed


@dataclass(frozen=True)
class PlannedImage:
    """One image of the archive. `present` is None when no engine could be asked; `size` is known of a present one."""

    reference: str
    id: str
    created: str
    present: bool | None
    size: int | None


@dataclass(frozen=True)
class UnlockPlan:
    """The whole job. `tar_size` is in bytes. `engine_answers` is False if the engine's share is not known."""

    archive: Path
    created: str
    tar_size: int
    mode: str
    images: tuple[PlannedImage, ...]
    places: tuple[Place, ...]
    engine_answers: bool

    @property
    def done(self) -> bool:
        """Whether every image is there already, so that nothing would be written."""
        return all(image.present for image in self.images)

    @property
    def fits(self) -> bool:
        """Whether every place has room and can be written to."""
        return all(place.fits and place.writable for place in self.places)


def make_plan(settings: Settings, engine: DockerEngine, archive: Archive) -> UnlockPlan:
    """The plan for an opened archive. Changes nothing. Raises StorageError."""
    manifest = archive.manifest
    try:
        images = tuple(_planned(image, engine.find(image.reference)) for image in manifest.images)
        root = engine.root_directory()
    except EngineUnavailable:
        images = tuple(PlannedImage(image.reference, image.id, image.created, None, None) for image in manifest.images)
        root = None
    answers = all(image.present is not None for image in images)
    places = _places(settings, manifest.tar_size, root)
    return UnlockPlan(archive.path, manifest.created, manifest.tar_size, settings.unlock_mode, images, places, answers)


def require_room(plan: UnlockPlan) -> None:
    """Raises StorageError or DiskSpace for the first place that will not do."""
    for place in plan.places:
        paths = " and ".join(map(str, place.paths))
        fault: DeviceFault | None = None
        if not place.writable:
            fault = StorageError(f"{paths} cannot be written to.")
        elif not place.fits:
            fault = DiskSpace(
                f"There is too little room at {paths}: {place.needed} bytes are needed, {place.free} bytes are free."
            )
        if fault is not None:
            if plan.mode == "tar":
                fault.hint = f"{fault.hint} UNLOCK_MODE=stream would need less: it writes no tar."
            raise fault


def require_images_without_archive(settings: Settings, engine: DockerEngine) -> None:
    """Raises ArchiveNotFound unless those of the last archive, or else of EXPECTED_IMAGES, are in the engine."""
    remembered = remembered_images(settings.model_cache_dir)
    if remembered:
        present = engine.holds(remembered)
    else:
        references = settings.expected_references
        present = bool(references) and all(engine.find(reference) is not None for reference in references)
    if not present:
        raise ArchiveNotFound(f"There is no archive at {settings.images_path}, and its images are not in the engine.")


def _planned(expected: ManifestImage, found: EngineImage | None) -> PlannedImage:
    present = found is not None and found.is_image_of(expected)
    size = found.size if found is not None and present else None
    return PlannedImage(expected.reference, expected.id, expected.created, present, size)


def _places(settings: Settings, tar_size: int, engine_root: Path | None) -> tuple[Place, ...]:
    """Directories on one disk share its room, so that they are one place."""
    tar_directory = settings.tar_path.parent
    needs: dict[Path, int] = {}
    if settings.unlock_mode == "tar":
        needs[tar_directory] = tar_size
    if engine_root is not None and _is_visible(engine_root):
        # The tar's directory may lie in the engine's, or be the same one.
        needs[engine_root] = needs.get(engine_root, 0) + ENGINE_COPIES * tar_size
    disks: dict[int, list[Path]] = {}
    for path in needs:
        with storage(path, needs[path]):
            disks.setdefault(path.stat().st_dev, []).append(path)
    return tuple(_place(paths, sum(needs[path] for path in paths), tar_directory) for paths in disks.values())


def _is_visible(engine_root: Path) -> bool:
    """An engine on another machine, or behind the wall of a container, cannot be looked into from here."""
    try:
        return engine_root.is_dir()
    except OSError:
        return False


def _place(paths: list[Path], needed: int, tar_directory: Path) -> Place:
    with storage(paths[0], needed):
        free = free_bytes(paths[0])
    writable = tar_directory not in paths or os.access(tar_directory, os.W_OK | os.X_OK)
    return Place(tuple(paths), needed, free, writable)
