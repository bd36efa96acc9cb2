"""The disks that an unlock writes to: how many bytes tar, journal and engine need there, and how many are free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loader.docker_engine import EngineDescription, Store
from loader.errors import DiskSpace, StorageError
from loader.files import free_bytes, has_inodes, out_of_inodes, storage
from loader.settings import Settings
from loader.unlock.delivery import tar_path

STREAM_ADVICE = "UNLOCK_MODE=stream would need less: it writes no tar."
# The journal of 128 names and of those that keep their former images, with some 500 bytes each, the heads of two
# releases, and its next version, which is written before the first one goes.
JOURNAL_SIZE = 1 << 18
# While podman loads a tar, it keeps the tar and the files of the tar until the load has ended.
PODMAN_COPIES = 2


@dataclass(frozen=True)
class Place:
    """A disk that the unlock writes to. `needed` and `free` are bytes, `paths` are the directories on that disk.

    `tar` is how many of the needed bytes mode `stream` would spare: those of the tar, or none if that mode could not be
    used either. `takes_files` is False if the disk has no inode left. `spare` is how many bytes the engine can free
    before it gets the images.
    """

    paths: tuple[Path, ...]
    needed: int
    free: int
    writable: bool
    tar: int = 0
    takes_files: bool = True
    spare: int = 0

    @property
    def fits(self) -> bool:
        """Whether the disk has enough room, or will have it."""
        # The tar is written before the engine frees anything.
        room = self.free >= self.tar and self.free + self.spare >= self.needed
        return room and (self.takes_files or not self.needed)

    @property
    def needs_spare(self) -> bool:
        """Whether the disk has enough room only once the engine has freed some."""
        return self.fits and self.free < self.needed

    @property
    def advice(self) -> str:
        """What would need less room on this disk, with a space before it; empty if nothing would."""
        return f" {STREAM_ADVICE}" if self.tar else ""


@dataclass(frozen=True)
class Work:
    """The bytes of an unlock.

    `to_read` are those of the archive, `to_send` those of the tars that the engine gets, of which the largest has
    `largest`, and `to_unpack` those of the layers that the engine does not have yet. `journal` are those of the journal
    of names, 0 if nothing is left to do.
    """

    to_read: int
    to_send: int
    largest: int
    to_unpack: int
    journal: int


def places(settings: Settings, work: Work, engine: EngineDescription | None) -> tuple[Place, ...]:
    """Return one place for each disk, because directories on one disk share its free room. Raises StorageError.

    `engine` is None if the engine does not respond. Directories of an engine that runs elsewhere are left out.
    """
    tar = {tar_path(settings).parent: work.to_send} if settings.unlock_mode == "tar" else {}
    journal = {_existing(settings.model_cache_dir): work.journal} if work.journal else {}
    needs: dict[Path, int] = {}
    engine_needs = _engine_needs(engine, work) if engine is not None else ()
    for path, needed in (*tar.items(), *engine_needs, *journal.items()):
        # The needs are added, because the tar may lie in the engine's directory.
        needs[path] = needs.get(path, 0) + needed
    disks: dict[int, list[Path]] = {}
    for path in needs:
        with storage(path, needs[path]):
            disks.setdefault(path.stat().st_dev, []).append(path)
    return tuple(_place({path: needs[path] for path in paths}, tar, journal) for paths in disks.values())


def require_room(places_: tuple[Place, ...]) -> None:
    """Raise StorageError or DiskSpace for the first place that cannot take what the unlock writes."""
    for place in places_:
        paths = " and ".join(map(str, place.paths))
        if not place.writable:
            raise StorageError(f"{paths} cannot be written to.", hint=StorageError.hint + place.advice)
        if place.needed and not place.takes_files:
            raise out_of_inodes(place.paths[0])
        if not place.fits:
            sentence = (
                f"There is too little room at {paths}: {place.needed} bytes are needed, {place.free} bytes are free."
            )
            raise DiskSpace(sentence, hint=DiskSpace.hint + place.advice)


def _engine_needs(engine: EngineDescription, work: Work) -> Iterator[tuple[Path, int]]:
    """Yield what an engine writes at most while it loads one image after another, by its directories.

    Not counted: what the file system needs for names and small files, the copies of lower layers that the driver vfs
    makes for each layer, and a containerd that does not keep its files below the engine's root.
    """
    if engine.root is None or not _is_visible(engine.root):
        return
    if engine.store.may_be_containerd:
        # The containerd store keeps each blob as it came, and unpacks it beside. It needs more than the classic store.
        yield engine.root, work.to_send + work.to_unpack
    elif engine.store is Store.PODMAN:
        yield engine.root, work.to_unpack
        if engine.copies is not None and _is_visible(engine.copies):
            # The layers that are new are there once more, before they are unpacked.
            yield engine.copies, PODMAN_COPIES * work.largest + min(work.largest, work.to_unpack)
    else:
        # The classic store unpacks a copy of the whole tar before it makes layers from it; the copy goes afterwards.
        yield engine.root, work.largest + work.to_unpack


def _is_visible(path: Path) -> bool:
    """Return False if the engine runs on another machine or in another container, where its disk cannot be read."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _existing(directory: Path) -> Path:
    """Return `directory`, or where it will be made: the nearest of its parents that exists. Raises StorageError."""
    with storage(directory, 0):
        while not directory.exists():
            directory = directory.parent
    return directory


def _place(needs: dict[Path, int], tar: dict[Path, int], journal: dict[Path, int]) -> Place:
    """Return the disk on which these directories need so many bytes. The loader itself writes to `tar` and `journal`.

    Only the engine knows whether it can write to its own directories.
    """
    first, needed = next(iter(needs)), sum(needs.values())
    with storage(first, needed):
        free, takes_files = free_bytes(first), has_inodes(first)
    takes_journal = all(map(_is_writable, needs.keys() & journal.keys()))
    writable = takes_journal and all(map(_is_writable, needs.keys() & tar.keys()))
    spared = sum(tar[path] for path in needs.keys() & tar.keys()) if takes_journal else 0
    return Place(tuple(needs), needed, free, writable, spared, takes_files)


def _is_writable(directory: Path) -> bool:
    return os.access(directory, os.W_OK | os.X_OK)
