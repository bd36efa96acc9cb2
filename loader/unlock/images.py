"""The engine's part of an unlock: images in, proven, and nothing half-done left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine
from loader.errors import EngineStalled, EngineUnavailable, LoaderError
from loader.unlock.delivery import TarDelivery

log = logging.getLogger(__name__)

Progress = Callable[[int], None]


def load_images(
    engine: DockerEngine, images: Iterable[ManifestImage], delivery: TarDelivery, progress: Progress
) -> None:
    """Load the tar, prove that its images are those of the manifest, and drop the ones they replaced.

    After a failure every reference names again what it named before. `progress` gets the bytes taken and unpacked so
    far. Raises the engine's faults, ImageMismatch, and what the delivery raises.
    """
    images = tuple(images)
    with _replaced_or_restored(engine, images):
        try:
            engine.load(_CountedBody(delivery, progress), lambda unpacked: progress(delivery.size + unpacked))
        except (EngineStalled, EngineUnavailable):
            # An engine that fell silent may have finished all the same: its state decides, not the clock.
            if not _holds_after_all(engine, images):
                raise
        engine.verify(images)


def _holds_after_all(engine: DockerEngine, images: tuple[ManifestImage, ...]) -> bool:
    try:
        return engine.holds(images)
    except LoaderError:
        return False


@contextmanager
def _replaced_or_restored(engine: DockerEngine, images: tuple[ManifestImage, ...]) -> Iterator[None]:
    before = {image.reference: engine.find(image.reference) for image in images}
    try:
        yield
    except BaseException:
        _tidy(partial(engine.restore, reference, image) for reference, image in before.items())
        raise
    _tidy(partial(engine.remove_if_dangling, image) for image in before.values() if image is not None)


def _tidy(works: Iterable[Callable[[], None]]) -> None:
    """To fail here changes nothing about how the unlock ended."""
    for work in works:
        try:
            work()
        except LoaderError as exc:
            log.warning("the engine could not be tidied up: %s", exc)
            if isinstance(exc, EngineUnavailable):
                return  # Each further question would be waited for in vain, too.


class _CountedBody:
    """A delivery as a request body of known length; `progress` gets the bytes taken of it so far."""

    def __init__(self, delivery: TarDelivery, progress: Progress) -> None:
        self._delivery = delivery
        self._progress = progress

    def __len__(self) -> int:
        return self._delivery.size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        taken = 0
        for piece in self._delivery.pieces():
            yield piece
            taken += len(piece)
            self._progress(taken)
