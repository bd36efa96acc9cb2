"""What an unlock would do now, for people: its plan, and the error of the first check that fails."""

from __future__ import annotations

from dataclasses import replace

from loader.binary_split import Archive, open_archive
from loader.docker_engine import DockerEngine
from loader.errors import ArchiveNotFound, EngineUnavailable
from loader.settings import Settings
from loader.unlock.checks import are_expected_there, first_failure, no_archive
from loader.unlock.journal import JournalFile
from loader.unlock.obstacles import obstacles
from loader.unlock.plan import PlannedImage, UnlockPlan, described, look_up_images, make_plan
from loader.unlock.remembered import Remembered
from loader.unlock.room import Work

NO_WORK = Work(to_read=0, to_send=0, largest=0, to_unpack=0, journal=0)


def plan_unlock(settings: Settings, engine: DockerEngine, *, is_active: bool = False) -> UnlockPlan:
    """Return what an unlock would do now, and change nothing.

    While an unlock `is_active`, the engine is only looked at, because it has other work than to refuse trials. Raises
    ArchiveNotFound unless an unlock needs no archive, ArchiveCorrupt, UntrustedPublisher, StorageError, EngineRejected,
    and EngineUnavailable if the engine goes meanwhile.
    """
    try:
        with open_archive(settings.images_path) as archive:
            archive.require_publisher(settings.publisher_keys)
            return _plan_of(settings, engine, archive, is_active=is_active)
    except ArchiveNotFound:
        return _without_archive(settings, engine)


def _plan_of(settings: Settings, engine: DockerEngine, archive: Archive, *, is_active: bool) -> UnlockPlan:
    try:
        # An image is there once its unlock is proven: until then the unlock may still take it back.
        images = look_up_images(engine, archive.head, JournalFile(settings.model_cache_dir).undone())
    except EngineUnavailable as exc:
        unknown = (PlannedImage(image, archive.head.unpacked_size(image), None) for image in archive.head.images)
        plan = make_plan(settings, archive, tuple(unknown), None, None)
        return replace(plan, failure=first_failure(settings, archive, plan.places, done=False, unavailable=exc))
    description = described(engine)
    plan = make_plan(settings, archive, images, engine, description)
    plan = replace(plan, failure=first_failure(settings, archive, plan.places, done=plan.done))
    if description is None:
        return plan
    further = obstacles(engine, description, archive.head.images, done=plan.done or is_active)
    return replace(plan, warnings=(*plan.warnings, *further))


def _without_archive(settings: Settings, engine: DockerEngine) -> UnlockPlan:
    """Return the plan of an unlock that is `ready` without an archive. Raises ArchiveNotFound if it would not be."""
    remembered = Remembered.read_if_sound(settings.model_cache_dir).present
    images: tuple[PlannedImage, ...] = ()
    if remembered is not None:
        images = look_up_images(engine, remembered.head, JournalFile(settings.model_cache_dir).undone())
        present = all(image.present for image in images)
    else:
        present = are_expected_there(settings, engine)
    if not present:
        raise no_archive(settings)
    return UnlockPlan(
        archive=settings.images_path,
        release=None,
        older_than=None,
        mode=settings.unlock_mode,
        images=images,
        layouts=(),
        bases=(),
        work=NO_WORK,
        seconds=None,
        places=(),
        warnings=(),
        engine_answers=True,
    )
