"""The releases on this device, as its files tell: a file is read again only after it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from loader.binary_split import identify, read_head
from loader.crypto.archive_head import Release
from loader.errors import ArchiveCorrupt, LoaderError
from loader.files import FileIdentity
from loader.settings import Settings
from loader.unlock.remembered import NOTHING, REMEMBERED_NAME, Remembered

T = TypeVar("T")

# The release of the archive; the one that was unlocked last, and the one that was unlocked before it.
INSTALLED = "installed"
PRESENT = "present"
PREVIOUS = "previous"


@dataclass(frozen=True)
class ReleaseHere:
    """A release in one of the three places. `proven`: its head was authenticated on this device."""

    place: str
    release: Release
    proven: bool


class ReleasesHere:
    """The releases of one device. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        """Read nothing yet."""
        archive, directory = settings.images_path, settings.model_cache_dir
        self._head = _Kept(archive, lambda: read_head(archive))
        self._remembered = _Kept(directory / REMEMBERED_NAME, lambda: Remembered.read(directory))

    def all(self) -> Iterator[ReleaseHere]:
        """Yield the releases. One whose file cannot be read is left out. Never asks the engine, and never raises."""
        remembered = self._remembered.get() or NOTHING
        proven = {PRESENT: remembered.present, PREVIOUS: remembered.previous}
        for place, each in proven.items():
            if each is not None:
                yield ReleaseHere(place, each.head.release, proven=True)
        head = self._head.get()
        if head is not None:
            is_proven = any(each is not None and each.digest == head.digest for each in proven.values())
            yield ReleaseHere(INSTALLED, head.head.release, is_proven)


class _Kept(Generic[T]):
    """What `read` makes of a file, kept until the file changes; None without a file, or with a bad one."""

    def __init__(self, path: Path, read: Callable[[], T]) -> None:
        self._path = path
        self._read = read
        self._kept: tuple[FileIdentity | None, T | None] = (None, None)

    def get(self) -> T | None:
        with suppress(LoaderError):
            # Look before the file is read: if it changes meanwhile, it is read again the next time.
            identity = identify(self._path)
            if identity != self._kept[0]:
                self._kept = (identity, self._fresh() if identity is not None else None)
            return self._kept[1]
        return None

    def _fresh(self) -> T | None:
        with suppress(ArchiveCorrupt):
            return self._read()
        return None
