"""The images of an unlock in the engine: loaded and proven; and those that must be there where no archive is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loader.crypto.archive_head import Head, Image
from loader.docker_engine import DockerEngine, NotPermitted, is_snapshot_lost
from loader.errors import (
    Busy,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
)
from loader.oci import Layout
from loader.settings import Settings
from loader.unlock.checks import are_expected_there, no_archive
from loader.unlock.delivery import Delivery
from loader.unlock.layers import Base, whole
from loader.unlock.remembered import Remembered

# After how many seconds a caller should try again while another one has the images proven.
BUSY_SECONDS = 2

# Held during a proof of the remembered images, because a proof may make a container of each image.
_proving = threading.Lock()


class Loading:
    """Loads the planned images into the engine, and proves that all images of the archive are there afterwards."""

    def __init__(
        self,
        engine: DockerEngine,
        head: Head,
        layouts: Sequence[Layout],
        delivery: Delivery,
        bases: Sequence[Base] = (),
    ) -> None:
        """`bases` are the images in the engine whose layers `layouts` leave out.

        `total` is how many bytes `run` counts in all. Once whole layouts are sent instead, it grows, and
        `fell_back` is true.
        """
        self.total = _counted(layouts)
        self.fell_back = False
        self._engine = engine
        self._head = head
        self._layouts = layouts
        self._delivery = delivery
        self._bases = bases
        self._reached = 0
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
        layouts = tuple(self._layouts)
        # Bases may have gone between the plan and their pins.
        if not all(base.is_there(self._engine) for base in self._bases):
            layouts = tuple(map(whole, layouts))
            self._fall_back(layouts, to_send=layouts)
        for number, layout in enumerate(layouts):
            self._load(layout, layouts[number + 1 :], on_progress)
        for names in self._head.distinct_images:
            self._name(names)
        self._engine.prove(self._head.images)

    def _load(self, layout: Layout, later: Sequence[Layout], on_progress: Callable[[int], None]) -> None:
        try:
            self._send(layout, on_progress)
        except NotPermitted:
            # A proxy would refuse all layers too.
            raise
        except (EngineRejected, ImageMismatch) as exc:
            # The engine may have lost the layers that were left out, or those of an earlier load that it still removes.
            if layout == whole(layout) and not is_snapshot_lost(str(exc)):
                raise
            again = whole(layout)
            # It may have lost those of later images too: their damage is found before this image is there.
            self._fall_back([again, *map(whole, later)], to_send=[again, *later])
            self._send(again, on_progress)

    def _fall_back(self, layouts: Sequence[Layout], to_send: Sequence[Layout]) -> None:
        """Authenticate whole layouts, and count what is still to send from the bytes on that were counted before."""
        self.fell_back = True
        self._delivery.authenticate(layouts)
        self.total = self._reached + _counted(to_send)

    def _send(self, layout: Layout, on_progress: Callable[[int], None]) -> None:
        self._current, self._left = layout, layout.size
        before = self._reached

        def reach(count: int) -> None:
            self._reached = before + count
            on_progress(self._reached)

        try:
            self._engine.load(
                _Body(self._taken(layout, reach), layout.size),
                lambda unpacked: reach(layout.size + min(unpacked, layout.size)),
            )
        except (EngineStalled, EngineUnavailable) as exc:
            try:
                # The load succeeded if the image is there, because a silent engine may have finished its work.
                self._engine.prove([layout.image])
            except LoaderError:
                raise exc from None
        else:
            self._prove_loaded(layout.image)
        finally:
            self._left = 0
        self._reached = before + _counted([layout])

    def _prove_loaded(self, image: Image) -> None:
        try:
            self._engine.prove([image])
        except ImageMismatch:
            # Only now it is known that another image came with the archive; a later one under this name is not ours.
            with suppress(EngineRejected):
                self._engine.remove_name(image.reference)
            raise

    def _taken(self, layout: Layout, on_progress: Callable[[int], None]) -> Iterator[bytes | memoryview]:
        for piece in self._delivery.pieces(layout):
            yield piece
            self._left -= len(piece)
            on_progress(layout.size - self._left)

    def _name(self, names: tuple[Image, ...]) -> None:
        """Give the image all of its names; the engine has it under one of them."""
        present = [image.reference for image in names if self._has_id_of(image)]
        for image in names if present else ():
            if image.reference not in present:
                self._engine.name(present[0], image.reference)

    def _has_id_of(self, image: Image) -> bool:
        found = self._engine.find(image.reference)
        return found is not None and found.has_id_of(image)


def _counted(layouts: Iterable[Layout]) -> int:
    return 2 * sum(layout.size for layout in layouts)


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
    Busy while another caller has the images proven, and the errors of `DockerEngine.can_run`.
    """
    remembered = Remembered.read_if_sound(settings.model_cache_dir).images
    present = _can_run_all(engine, remembered) if remembered else are_expected_there(settings, engine)
    if not present:
        raise no_archive(settings)
    return bool(remembered)


def _can_run_all(engine: DockerEngine, images: Sequence[Image]) -> bool:
    if not _proving.acquire(blocking=False):
        raise Busy("Another request has the images proven.", BUSY_SECONDS)
    try:
        return all(map(engine.can_run, images))
    finally:
        _proving.release()
