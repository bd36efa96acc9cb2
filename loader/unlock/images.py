"""The images of an unlock in the engine: loaded, proven, restored after a failure, and remembered after a success."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from loader.crypto.archive import Manifest, ManifestImage
from loader.docker_engine import DockerEngine
from loader.errors import ArchiveNotFound, CorruptCiphertext, EngineStalled, EngineUnavailable, LoaderError
from loader.files import make_private_directory, remove_unfinished, write_whole
from loader.settings import Settings
from loader.unlock.delivery import TarDelivery

log = logging.getLogger(__name__)

# Holds the manifest of the last unlock, for a device whose archive was removed after it.
REMEMBERED_NAME = "unlocked-manifest.json"


def load_images(
    engine: DockerEngine, images: tuple[ManifestImage, ...], delivery: TarDelivery, on_progress: Callable[[int], None]
) -> None:
    """Load the tar, prove that its images are those of the manifest, and remove the images that they replaced.

    `on_progress` gets the bytes that the engine has taken and unpacked so far. After a failure every reference names
    what it named before. Raises the errors of the engine, ImageMismatch, and what the delivery raises.
    """
    with _restored_after_failure(engine, images):
        try:
            engine.load(_CountedBody(delivery, on_progress), lambda unpacked: on_progress(delivery.size + unpacked))
        except (EngineStalled, EngineUnavailable):
            # The load succeeded if the images are there, because a silent engine may have finished its work.
            if not _holds_after_all(engine, images):
                raise
        else:
            engine.verify(images)


def _holds_after_all(engine: DockerEngine, images: tuple[ManifestImage, ...]) -> bool:
    try:
        return engine.holds(images)
    except LoaderError:
        return False


@contextmanager
def _restored_after_failure(engine: DockerEngine, images: tuple[ManifestImage, ...]) -> Iterator[None]:
    """Restore what the references name now if the block fails; otherwise remove the images that lost their name."""
    before = {image.reference: engine.find(image.reference) for image in images}
    try:
        yield
    except BaseException:
        _tidy(partial(engine.restore, reference, image) for reference, image in before.items())
        raise
    _tidy(partial(engine.remove_if_dangling, image) for image in before.values() if image is not None)


def _tidy(steps: Iterable[Callable[[], None]]) -> None:
    """Run the steps. An error is logged only, because it must not change the outcome of the unlock."""
    for step in steps:
        try:
            step()
        except LoaderError as exc:
            log.warning("the engine could not be tidied up: %s", exc)
            if isinstance(exc, EngineUnavailable):
                return  # Every further step would wait for the same engine in vain.


class _CountedBody:
    """A delivery as a request body of known length. `on_taken` gets the bytes that the engine has taken so far."""

    def __init__(self, delivery: TarDelivery, on_taken: Callable[[int], None]) -> None:
        self._delivery = delivery
        self._on_taken = on_taken

    def __len__(self) -> int:
        return self._delivery.size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        taken = 0
        for piece in self._delivery.pieces():
            yield piece
            taken += len(piece)
            self._on_taken(taken)


def require_images_without_archive(settings: Settings, engine: DockerEngine) -> None:
    """Raise ArchiveNotFound unless the images of the remembered manifest are in the engine.

    Without a remembered manifest, any images under the references of EXPECTED_IMAGES will do. Raises EngineUnavailable.
    """
    remembered = remembered_images(settings.model_cache_dir)
    if remembered:
        present = engine.holds(remembered)
    else:
        references = settings.expected_references
        present = bool(references) and all(engine.find(reference) is not None for reference in references)
    if not present:
        raise ArchiveNotFound(f"There is no archive at {settings.images_path}, and its images are not in the engine.")


def remember_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest` to `directory`. Never raises, because a failure must not undo an unlock."""
    path = directory / REMEMBERED_NAME
    try:
        make_private_directory(directory)
        write_whole(path, json.dumps(manifest.document()).encode())
    except OSError as exc:
        log.warning("the manifest could not be remembered at %s: %s", path, exc.strerror)


def remembered_images(directory: Path) -> tuple[ManifestImage, ...]:
    """Return the images of the manifest in `directory`, none if it is absent or cannot be used."""
    path = directory / REMEMBERED_NAME
    try:
        document = json.loads(path.read_bytes())
        return Manifest.parse(document if isinstance(document, dict) else {}).images
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError, CorruptCiphertext) as exc:
        log.warning("the remembered manifest %s cannot be used: %s", path, exc)
        return ()


def remove_unfinished_manifest(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote the manifest. Never raises."""
    remove_unfinished(directory / REMEMBERED_NAME)
