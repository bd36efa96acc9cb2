"""The images of an unlock in the engine: loaded, proven, and remembered after a success."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.archive_head import Head, Image, StoredHead
from loader.crypto.json_header import JSON_MAX_SIZE, LENGTH_SIZE
from loader.docker_engine import DockerEngine
from loader.errors import (
    ArchiveNotFound,
    CorruptCiphertext,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
    StorageError,
)
from loader.files import make_private_directory, read_small, remove_unfinished, write_whole
from loader.oci import Layout
from loader.settings import Settings
from loader.unlock.delivery import Delivery

log = logging.getLogger(__name__)

# Holds the head of the last archive that was unlocked, for a device whose archive was removed after it.
REMEMBERED_NAME = "unlocked-manifest.json"


class Loading:
    """Loads the planned images into the engine, and proves that all images of the archive are there afterwards."""

    def __init__(self, engine: DockerEngine, head: Head, layouts: Sequence[Layout], delivery: Delivery) -> None:
        self._engine = engine
        self._head = head
        self._layouts = layouts
        self._delivery = delivery
        self._left = 0
        self._current: Layout | None = None

    @property
    def activity(self) -> str | None:
        """What the engine does with the current image, as a sentence; None before the first one."""
        if self._current is None:
            return None
        reference, size = self._current.image.reference, round(self._current.size / 1e6)
        if self._left:
            return f"The engine gets {reference}, {size} MB."
        return f"The engine has all {size} MB of {reference}, and unpacks them."

    @property
    def is_committing(self) -> bool:
        """Whether the engine has got all of the current image, and works on it."""
        return self._left == 0

    def run(self, on_progress: Callable[[int], None]) -> None:
        """Load each image, prove that it is there, and give all images their names.

        `on_progress` gets the bytes that the engine has taken and unpacked so far: each byte that is sent counts
        twice. Raises the errors of the engine, ImageMismatch, and what the delivery raises. What has changed in the
        engine stays then.
        """
        done = 0
        for layout in self._layouts:
            self._load(layout, lambda count, before=done: on_progress(before + count))  # type: ignore[misc]
            done += 2 * layout.size
        for names in self._head.distinct_images:
            self._name(names)
        self._engine.prove(self._head.images)

    def _load(self, layout: Layout, on_progress: Callable[[int], None]) -> None:
        whole = Layout(self._head, layout.image, layout.image.layers)
        try:
            self._send(layout, on_progress)
        except (EngineRejected, ImageMismatch):
            # The engine may have lost the layers that were left out.
            if layout == whole:
                raise
            self._send(whole, on_progress)

    def _send(self, layout: Layout, on_progress: Callable[[int], None]) -> None:
        self._current, self._left = layout, layout.size
        try:
            self._engine.load(
                _Body(self._taken(layout, on_progress), layout.size),
                lambda unpacked: on_progress(layout.size + min(unpacked, layout.size)),
            )
        except (EngineStalled, EngineUnavailable) as exc:
            try:
                # The load succeeded if the image is there, because a silent engine may have finished its work.
                self._engine.prove([layout.image])
            except LoaderError:
                raise exc from None
        else:
            self._engine.prove([layout.image])
        finally:
            self._left = 0

    def _taken(self, layout: Layout, on_progress: Callable[[int], None]) -> Iterator[bytes | memoryview]:
        for piece in self._delivery.pieces(layout):
            yield piece
            self._left -= len(piece)
            on_progress(layout.size - self._left)

    def _name(self, names: tuple[Image, ...]) -> None:
        """Give the image all of its names; the engine has it under one of them."""
        present = [image.reference for image in names if self._engine.holds([image])]
        for image in names if present else ():
            if image.reference not in present:
                self._engine.name(present[0], image.reference)


@dataclass(frozen=True)
class _Body:
    """Pieces as a request body of known length, which can be sent once."""

    pieces: Iterator[bytes | memoryview]
    size: int

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return self.pieces


def require_images_without_archive(settings: Settings, engine: DockerEngine) -> bool:
    """Raise ArchiveNotFound unless the remembered images are in the engine. Return whether they are proven.

    Without remembered ones, any images under the references of EXPECTED_IMAGES will do, which proves nothing. Raises
    EngineUnavailable.
    """
    remembered = remembered_images(settings.model_cache_dir)
    if remembered:
        present = engine.holds(remembered)
    else:
        references = settings.expected_references
        present = bool(references) and all(engine.find(reference) is not None for reference in references)
    if not present:
        raise ArchiveNotFound(f"There is no archive at {settings.images_path}, and its images are not in the engine.")
    return bool(remembered)


def remember_head(directory: Path, head: StoredHead) -> None:
    """Write an authenticated head to `directory`, byte for byte as the archive has it.

    Never raises, because a failure must not undo an unlock.
    """
    path = directory / REMEMBERED_NAME
    try:
        make_private_directory(directory)
        write_whole(path, head.raw[LENGTH_SIZE:])
    except OSError as exc:
        log.warning("the images could not be remembered at %s: %s", path, exc.strerror)


def is_remembered(directory: Path, head: StoredHead) -> bool:
    """Return whether exactly this head was authenticated by the last unlock on this device."""
    try:
        return read_small(directory / REMEMBERED_NAME, JSON_MAX_SIZE) == head.raw[LENGTH_SIZE:]
    except OSError:
        return False


def remembered_images(directory: Path) -> tuple[Image, ...]:
    """Return the images of the head in `directory`, none if it is absent or cannot be used."""
    try:
        return read_remembered(directory)
    except StorageError as exc:
        log.warning("%s", exc)
        return ()


def read_remembered(directory: Path) -> tuple[Image, ...]:
    """Return the images of the head in `directory`, none if it is absent. Raises StorageError if it cannot be used."""
    path = directory / REMEMBERED_NAME
    try:
        document = json.loads(read_small(path, JSON_MAX_SIZE))
        return Head.parse(document if isinstance(document, dict) else {}).images
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
        raise StorageError(f"The remembered images {path} cannot be used: {exc}.") from exc


def remove_unfinished_head(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote the head. Never raises."""
    remove_unfinished(directory / REMEMBERED_NAME)
