"""The checks that an unlock makes before its login, as the plan tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from loader.binary_split import Archive
from loader.docker_engine import DockerEngine
from loader.errors import ArchiveNotFound, EngineUnavailable, LoaderError
from loader.settings import Settings
from loader.unlock.release_mark import KnownRelease, ReleaseMark
from loader.unlock.room import Place, require_room


@dataclass(frozen=True)
class PlannedFailure:
    """The error with which an unlock would end before its login. It keeps no exception, because plans are shared."""

    code: str
    detail: str
    hint: str
    retryable: bool

    @classmethod
    def of(cls, error: LoaderError) -> PlannedFailure:
        """Return what the plan tells of `error`."""
        return cls(error.code, str(error), error.hint, error.retryable)


def no_archive(settings: Settings) -> ArchiveNotFound:
    """Return the error of an unlock that has neither an archive nor images that need none."""
    return ArchiveNotFound(f"There is no archive at {settings.images_path}, and its images are not in the engine.")


def are_expected_there(settings: Settings, engine: DockerEngine) -> bool:
    """Return whether the engine has an image under each reference of EXPECTED_IMAGES, of which there must be some.

    Raises the errors of `DockerEngine.find`.
    """
    references = settings.expected_references
    return bool(references) and all(engine.find(reference) is not None for reference in references)


def first_failure(
    settings: Settings,
    archive: Archive,
    places: tuple[Place, ...],
    *,
    done: bool,
    unavailable: EngineUnavailable | None = None,
) -> PlannedFailure | None:
    """Return the error of the first check that fails, in the order of the unlock; None if the login would come next.

    `done` says that all images are there, and `unavailable` that the engine does not tell.
    """
    try:
        archive.require_version(settings.api_version)
        mark = ReleaseMark.read(settings.model_cache_dir)
        mark.require_not_older(KnownRelease.of(archive.index.stored), None)
        if unavailable is not None:
            return PlannedFailure.of(unavailable)
        if not done:
            archive.require_complete()
            require_room(places)
    except LoaderError as exc:
        return PlannedFailure.of(exc)
    return None
