"""The Docker engine: load, inspect, save. The only importer of docker.

Works with any engine that speaks the Docker API, podman's service included. The SDK lets transport errors through as
they are, and those are all `OSError` or urllib3's; `FOREIGN_ERRORS` is what "the engine failed" can look like.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import urllib3

from loader.crypto.archive import ManifestImage
from loader.errors import DiskSpace, EngineRejected, EngineStalled, EngineUnavailable, ImageMismatch, LoaderError

log = logging.getLogger(__name__)

FOREIGN_ERRORS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)
SAVE_PIECE_SIZE = 1 << 20
# Seconds for a question, such as which images there are: an engine that works answers at once.
QUERY_TIMEOUT = 20.0
# And for whether it answers at all, which somebody waits for.
PING_TIMEOUT = 2.0


@dataclass(frozen=True)
class EngineImage:
    """One image as the engine describes it: ID, layer diff IDs, creation time (RFC 3339), bytes, has it a name."""

    id: str
    layers: tuple[str, ...]
    created: str
    size: int
    named: bool

    def is_image_of(self, expected: ManifestImage) -> bool:
        """Whether this is the very image of the manifest: same ID or, as engines may number images in their own way,
        the same layers in the same order and the same time of creation."""
        same_content = bool(self.layers) and (self.layers, self.created) == (expected.layers, expected.created)
        return self.id == expected.id or same_content


class DockerEngine:
    """The engine that DOCKER_HOST names. Connects when first used; safe to share between threads."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that the engine may be silent in the middle of a load or a save."""
        self._timeout = timeout
        self._clients: dict[float, Any] = {}

    def ping(self) -> None:
        """Raises EngineUnavailable unless it answers within 2 seconds, or 4 when it is asked for the first time."""
        with suppress(EngineRejected), _engine_faults():
            self._connected(PING_TIMEOUT).ping()

    def find(self, reference: str) -> EngineImage | None:
        """The image under `reference`, None if there is none; raises EngineUnavailable."""
        with _engine_faults():
            try:
                attributes = self._queries.inspect_image(reference)
            except docker.errors.NotFound:
                return None
        root = attributes.get("RootFS") or {}
        return EngineImage(
            id=_with_algorithm(attributes["Id"]),
            layers=tuple(root.get("Layers") or ()),
            created=attributes.get("Created") or "",
            size=attributes.get("Size") or 0,
            named=bool(attributes.get("RepoTags")),
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

    def root_directory(self) -> Path | None:
        """Where the engine says that it keeps its images, on its own machine; raises EngineUnavailable.

        None if it does not say, as an engine behind a proxy that lets only the needed requests pass.
        """
        try:
            with _engine_faults():
                root = self._queries.info().get("DockerRootDir")
        except EngineRejected:
            return None
        return Path(root) if root else None

    def load(self, tar: Iterable[bytes | memoryview], on_unpacked: Callable[[int], None] = lambda _: None) -> None:
        """Load a tar in `docker save` form. What `tar` raises passes through, and the engine then keeps nothing.

        `on_unpacked` gets the bytes of layers unpacked so far, from an engine that tells. Raises EngineRejected if the
        engine refuses the tar, DiskSpace if its disk is full, EngineStalled if it falls silent, EngineUnavailable.
        """
        api = self._transfers
        unpacked: dict[str, int] = {}
        try:
            # With quiet=False the engine reports on each layer; else it is silent to the end and looks dead.
            for message in api.load_image(tar, quiet=False):
                _raise_if_refused(message)
                detail = message.get("progressDetail") or {}
                unpacked[message.get("id", "")] = detail.get("current") or 0
                on_unpacked(sum(unpacked.values()))
        except docker.errors.APIError as exc:
            raise _refusal(exc.explanation or exc) from exc
        except FOREIGN_ERRORS as exc:
            raise _stalled_or_gone(exc) from exc

    def restore(self, reference: str, image: EngineImage | None) -> None:
        """Let `reference` name `image` again, or nothing; what it names meanwhile goes unless it has other names."""
        present = self.find(reference)
        if present == image:
            return
        with _engine_faults():
            if image is not None:
                self._queries.tag(image.id, *_repository_and_tag(reference))
            elif present is not None:
                self._queries.remove_image(reference)
        if image is not None and present is not None:
            self.remove_if_dangling(present)

    def remove_if_dangling(self, image: EngineImage) -> None:
        """Remove an image that has lost its last name, unless a container uses it."""
        found = self.find(image.id)
        if found is None or found.named:
            return
        try:
            with _engine_faults():
                self._queries.remove_image(image.id)
        except EngineRejected as exc:
            log.info("a replaced image stays: %s", exc)

    def save(self, references: list[str]) -> Iterator[bytes]:
        """The tar of these images in `docker save` form; raises EngineUnavailable or EngineRejected."""
        api = self._transfers
        # The SDK's own save knows one image only; the engine takes several, and shared layers then lie there once.
        url = f"{api.base_url}/v{api.api_version}/images/get"
        with _engine_faults(), api.get(url, params={"names": references}, stream=True, timeout=self._timeout) as answer:
            if answer.status_code != 200:
                raise EngineRejected(f"The Docker engine could not save the images (status {answer.status_code}).")
            yield from answer.iter_content(SAVE_PIECE_SIZE)

    def _look_up(self, images: Iterable[ManifestImage]) -> Iterator[tuple[ManifestImage, EngineImage | None]]:
        return ((image, self.find(image.reference)) for image in images)

    @property
    def _queries(self) -> Any:
        return self._connected(min(QUERY_TIMEOUT, self._timeout))

    @property
    def _transfers(self) -> Any:
        return self._connected(self._timeout)

    def _connected(self, timeout: float) -> Any:
        # The constructor asks the engine for its version, so that a failure must not be kept, and nobody wait for it.
        client = self._clients.get(timeout)
        if client is None:
            with _engine_faults():
                made = docker.from_env(timeout=timeout).api
            client = self._clients.setdefault(timeout, made)
            if client is not made:
                made.close()
        return client


@contextmanager
def _engine_faults() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as exc:
        raise EngineRejected(f"The Docker engine refused a request: {_one_line(exc.explanation or exc)}.") from exc
    except FOREIGN_ERRORS as exc:
        raise EngineUnavailable("The Docker engine does not answer.") from exc


def _raise_if_refused(message: dict[str, Any]) -> None:
    """The engine answers 200 before it reads the tar, so that refusals come as messages of the stream."""
    detail = message.get("errorDetail")
    said = detail.get("message") if isinstance(detail, dict) else None
    text = said or message.get("error") or message.get("message")
    if text:
        raise _refusal(text)


def _refusal(text: object) -> EngineRejected | DiskSpace:
    reason = _one_line(text)
    if "no space left on device" in reason:
        return DiskSpace(f"The disk of the Docker engine is full: {reason}.")
    return EngineRejected(f"The Docker engine refused the images: {reason}.")


def _repository_and_tag(reference: str) -> tuple[str, str]:
    repository, colon, tag = reference.rpartition(":")
    # What stands behind the last colon may be a registry's port.
    return (repository, tag) if colon and "/" not in tag else (reference, "latest")


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
