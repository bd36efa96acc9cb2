"""Old versions of the images of this device: which names in the engine they have, and their removal."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from loader.binary_split import open_archive
from loader.docker_engine import Absent, DockerEngine, StoredImage
from loader.errors import ArchiveNotFound, Busy, DiskSpace, EngineRejected
from loader.files import storage
from loader.references import MalformedReference, full_reference, split_tag
from loader.settings import Settings
from loader.unlock.journal import JOURNAL_NAME, PINS
from loader.unlock.previous import PREVIOUS
from loader.unlock.remembered import ProvenRelease, Remembered

# After how many seconds a caller should try again while an unlock changes the engine.
UNLOCK_SECONDS = 60


@dataclass(frozen=True)
class OldName:
    """A name that stands for an old version, or a pin that an earlier unlock has left."""

    reference: str
    image: StoredImage

    @property
    def is_used(self) -> bool:
        """Whether it must stay because of a container. A pin may go if its image has another name."""
        is_spare = split_tag(self.reference)[0] in (PINS, PREVIOUS) and len(self.image.names) > 1
        return self.image.is_used and not is_spare


@dataclass(frozen=True)
class OldVersions:
    """What may go: `names`, but for those that a container needs.

    `kept` are the references that count. `pins` are the names of the images that `previous`, the release to which
    `images back` returns, has in the engine; they are among `names` only if they may go too. `unnamed` are images
    without a name that no container uses. They may be anybody's, so that they stay.
    """

    kept: tuple[str, ...]
    previous: ProvenRelease | None
    pins: tuple[OldName, ...]
    names: tuple[OldName, ...]
    unnamed: tuple[StoredImage, ...]

    @property
    def removable(self) -> tuple[OldName, ...]:
        """The names that no container needs."""
        return tuple(name for name in self.names if not name.is_used)

    def freed(self, refused: Mapping[str, str]) -> int:
        """Return how many bytes the removal of all names frees at most, but for those that were `refused`.

        It is less if other images have the same layers.
        """
        gone = {name.reference for name in self.removable} - refused.keys()
        images = {name.image for name in self.removable if gone.issuperset(name.image.names)}
        return sum(image.size for image in images)


def find_old_versions(settings: Settings, engine: DockerEngine, *, with_previous: bool = False) -> OldVersions:
    """Return the old versions in the engine, and change nothing.

    A name is old if the last unlock that was proven had an image of the same repository, and neither that unlock, the
    archive nor EXPECTED_IMAGES has this tag. Nobody has authenticated the archive yet, so that it can only keep names.
    The names that keep the previous release are old `with_previous` only.

    Raises Busy while an unlock is under way, StorageError or ArchiveCorrupt if it cannot be known what counts, and the
    errors of the engine.
    """
    require_no_unlock(settings)
    remembered = Remembered.read(settings.model_cache_dir)
    repositories = {PINS, *(split_tag(image.reference)[0] for image in remembered.images)}
    kept = _kept(settings, remembered)
    images = engine.list_images()
    pins = _named(images, {PREVIOUS})
    names = [name for name in _named(images, repositories) if name.reference not in kept]
    return OldVersions(
        kept=tuple(sorted(kept)),
        previous=remembered.previous,
        pins=tuple(pins),
        names=(*names, *pins) if with_previous else tuple(names),
        unnamed=tuple(image for image in images if image.is_dangling and not image.is_used),
    )


def remove_old_versions(settings: Settings, engine: DockerEngine, old: OldVersions) -> dict[str, str]:
    """Remove the names that may go, and each image with its last name. Return the reason for each name that stays.

    A name that another image has got since `old` was found stays, and so does one that counts by now. Raises Busy as
    soon as an unlock is under way, StorageError or ArchiveCorrupt if it cannot be known what counts, and
    EngineUnavailable.
    """
    refused = {}
    for name in old.removable:
        # Before each name, because a large image takes long, within which another archive can be put and unlocked.
        require_no_unlock(settings)
        if name.reference in _kept(settings, Remembered.read(settings.model_cache_dir)):
            refused[name.reference] = "The last unlock, the archive or EXPECTED_IMAGES names it by now."
            continue
        try:
            found = engine.find(name.reference)
            if found is not None and found.id != name.image.id:
                refused[name.reference] = "It names another image by now."
            elif found is not None:
                engine.remove_name(name.reference)
        except Absent:
            continue
        except (EngineRejected, DiskSpace) as exc:
            refused[name.reference] = str(exc)
    return refused


def require_no_unlock(settings: Settings) -> None:
    """Raise Busy if the journal of an unlock is there, and StorageError if nobody can know."""
    directory = settings.model_cache_dir
    with storage(directory, 0):
        names = [path.name for path in directory.iterdir()]
    if JOURNAL_NAME in names:
        raise Busy(
            f"An unlock changes the engine, or is still to be undone, because {directory / JOURNAL_NAME} is there. "
            "The loader removes it in the end.",
            UNLOCK_SECONDS,
        )


def _named(images: Iterable[StoredImage], repositories: Container[str]) -> list[OldName]:
    """Return the names of these repositories, sorted."""
    names = (OldName(name, image) for image in images for name in image.names if split_tag(name)[0] in repositories)
    return sorted(names, key=lambda name: name.reference)


def _kept(settings: Settings, remembered: Remembered) -> set[str]:
    """Return the references that count."""
    return {image.reference for image in remembered.images}.union(_archived(settings), _expected(settings))


def _archived(settings: Settings) -> set[str]:
    """Return the references of the archive, none if there is no archive."""
    with suppress(ArchiveNotFound), open_archive(settings.images_path) as archive:
        return {image.reference for image in archive.head.images}
    return set()


def _expected(settings: Settings) -> Iterator[str]:
    for text in settings.expected_references:
        # A reference by digest has no tag that could go.
        with suppress(MalformedReference):
            yield full_reference(text)
