"""The Docker engine: load, inspect, save. The only importer of docker.

Works with any engine that speaks the Docker API, podman's service included. The SDK lets transport errors through as
they are, and those are all `OSError` or urllib3's; `FOREIGN_ERRORS` is what "the engine failed" can look like.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import urllib3

from loader.crypto.archive import ManifestImage
from loader.errors import EngineRejected, EngineStalled, EngineUnavailable, ImageMismatch, LoaderError

FOREIGN_ERRORS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)
SAVE_PIECE_SIZE = 1 << 20


@dataclass(frozen=True)
class EngineImage:
    """One image as the engine describes it: ID, layer diff IDs, creation time (RFC 3339), size in bytes."""

    id: str
    layers: tuple[str, ...]
    created: str
    size: int

    def is_image_of(self, expected: ManifestImage) -> bool:
        """Whether this is the very image of the manifest: same ID or, as engines may number images in their own way,
        the same layers in the same order and the same time of creation."""
        same_content = bool(self.layers) and (self.layers, self.created) == (expected.layers, expected.created)
        return self.id == expected.id or same_content


class DockerEngine:
    """The engine that DOCKER_HOST names. Connects when first used; safe to share between threads."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that the engine may be silent in the middle of an answer."""
        self._timeout = timeout
        self._client: Any = None
        self._client_lock = threading.Lock()

    def find(self, reference: str) -> EngineImage | None:
        """The image under `reference`, None if there is none; raises EngineUnavailable."""
        with _engine_faults():
            try:
                attributes = self._connected().api.inspect_image(reference)
            except docker.errors.NotFound:
                return None
        root = attributes.get("RootFS") or {}
        return EngineImage(
            id=_with_algorithm(attributes["Id"]),
            layers=tuple(root.get("Layers") or ()),
            created=attributes.get("Created") or "",
            size=attributes.get("Size") or 0,
        )

    def holds(self, expected: Iterable[ManifestImage]) -> bool:
        """Whether every expected image is there and is that very image; raises EngineUnavailable."""
        return all(found is not None and found.is_image_of(image) for image, found in self._look_up(expected))

    def verify(self, expected: Iterable[ManifestImage]) -> None:
        """Raises ImageMismatch with the first image that `holds` would miss."""
        for image, found in self._look_up(expected):
            if found is None:
                raise ImageMismatch(f"After the load the engine has no image {image.reference}.")
            if not found.is_image_of(image):
                raise ImageMismatch(f"After the load {image.reference} is not the image of the manifest.")

    def load(self, tar: Iterable[bytes], on_sign_of_life: Callable[[], None] = lambda: None) -> None:
        """Load a tar in `docker save` form. What `tar` raises passes through, and the engine then keeps nothing.

        Raises EngineRejected if the engine refuses it, EngineStalled if it falls silent, EngineUnavailable.
        """
        client = self._connected()
        try:
            # With quiet=False the engine reports on each layer; else it is silent to the end and looks dead.
            for message in client.api.load_image(tar, quiet=False):
                _raise_if_rejected(message)
                on_sign_of_life()
        except docker.errors.APIError as exc:
            raise EngineRejected(f"The Docker engine refused the images: {_one_line(exc.explanation or exc)}.") from exc
        except FOREIGN_ERRORS as exc:
            raise _stalled_or_gone(exc) from exc

    def save(self, references: list[str]) -> Iterator[bytes]:
        """The tar of these images in `docker save` form; raises EngineUnavailable or EngineRejected."""
        api = self._connected().api
        # The SDK's own save knows one image only; the engine takes several, and shared layers then lie there once.
        url = f"{api.base_url}/v{api.api_version}/images/get"
        with _engine_faults(), api.get(url, params={"names": references}, stream=True, timeout=self._timeout) as answer:
            if answer.status_code != 200:
                raise EngineRejected(f"The Docker engine could not save the images (status {answer.status_code}).")
            yield from answer.iter_content(SAVE_PIECE_SIZE)

    def _look_up(self, images: Iterable[ManifestImage]) -> Iterator[tuple[ManifestImage, EngineImage | None]]:
        return ((image, self.find(image.reference)) for image in images)

    def _connected(self) -> Any:
        # The constructor asks the engine for its version, so that a failure must not be kept.
        with self._client_lock:
            if self._client is None:
                with _engine_faults():
                    self._client = docker.from_env(timeout=self._timeout)
            return self._client


@contextmanager
def _engine_faults() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as exc:
        raise EngineRejected(f"The Docker engine refused a request: {_one_line(exc.explanation or exc)}.") from exc
    except FOREIGN_ERRORS as exc:
        raise EngineUnavailable("The Docker engine does not answer.") from exc


def _raise_if_rejected(message: dict[str, Any]) -> None:
    """The engine answers 200 before it reads the tar, so that refusals come as messages of the stream."""
    detail = message.get("errorDetail")
    text = detail.get("message") if isinstance(detail, dict) else message.get("error") or message.get("message")
    if text is not None:
        raise EngineRejected(f"The Docker engine refused the images: {_one_line(text)}.")


def _one_line(text: object) -> str:
    # podman lists on several lines what it has tried.
    return " ".join(str(text).split()).rstrip(".")


def _stalled_or_gone(exc: Exception) -> LoaderError:
    if _timed_out(exc):
        return EngineStalled("The Docker engine fell silent in the middle of the load.")
    return EngineUnavailable("The connection to the Docker engine was lost in the middle of the load.")


def _timed_out(exc: BaseException) -> bool:
    """The SDK's HTTP library wraps a time-out once or twice, as the exception's argument."""
    wrapped = [arg for arg in exc.args if isinstance(arg, BaseException)]
    return isinstance(exc, TimeoutError | urllib3.exceptions.TimeoutError) or any(map(_timed_out, wrapped))


def _with_algorithm(image_id: str) -> str:
    # podman gives the bare digest.
    return image_id if image_id.startswith("sha256:") else f"sha256:{image_id}"
