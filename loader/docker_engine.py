"""The Docker engine: load, inspect, save. The only importer of docker.

Works with any engine that speaks the Docker API, podman's service included. The SDK does not translate transport
errors, which are all `OSError` or errors of urllib3. `FOREIGN_ERRORS` lists every error that means that the engine
failed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.utils
import urllib3

from loader.crypto.archive_head import Image
from loader.errors import DiskSpace, EngineRejected, EngineStalled, EngineUnavailable, ImageMismatch, LoaderError
from loader.references import split_tag

log = logging.getLogger(__name__)

FOREIGN_ERRORS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)
SAVE_READ_SIZE = 1 << 20
# The first version of the API whose save takes a platform.
PLATFORM_API = "1.48"
# Seconds for a query, such as which images there are: an engine that works responds at once.
QUERY_TIMEOUT = 20.0
# Seconds for a ping, which is shorter because a caller waits for it.
PING_TIMEOUT = 2.0
# What the description of an engine says about its driver if containerd stores the images.
CONTAINERD_DRIVER = "io.containerd.snapshotter.v1"
# What podman calls itself among its components, and the oldest of its own APIs that every later version speaks.
PODMAN = "Podman Engine"
PODMAN_API = "v4.0.0"


class Store(StrEnum):
    """How an engine keeps images: in Docker's classic store, in Docker's containerd store, or as podman does."""

    CLASSIC = "classic"
    CONTAINERD = "containerd"
    PODMAN = "podman"


@dataclass(frozen=True)
class EngineDescription:
    """The engine itself.

    `root` is the directory of its images on its own machine, None if the engine does not tell. `platform` is
    `os/architecture`, empty if the engine does not tell. `copies` is the directory in which podman copies what it
    loads, None for Docker, which does that below `root`.
    """

    root: Path | None
    store: Store
    platform: str
    copies: Path | None = None

    def runs(self, platform: str) -> bool:
        """Return whether images for `platform` are made for this engine. The variant of an architecture is ignored."""
        return not self.platform or platform.split("/")[:2] == self.platform.split("/")


@dataclass(frozen=True)
class EngineImage:
    """One image as the engine describes it.

    `layers` are diff IDs, `size` is in bytes, `named` says whether the image has a tag, and `platform` is
    `os/architecture` or `os/architecture/variant`.
    """

    id: str
    layers: tuple[str, ...]
    size: int
    named: bool
    platform: str = ""

    def is_image_of(self, expected: Image) -> bool:
        """Return whether this is exactly the expected image: the ID is a digest of all that makes an image."""
        return self.id in expected.ids


class DockerEngine:
    """The engine at DOCKER_HOST. Connects when first used. Safe to share between threads."""

    def __init__(self, timeout: float) -> None:
        """`timeout` is how many seconds the engine may be silent during a load or a save."""
        self._timeout = timeout
        self._clients: dict[float, Any] = {}

    def ping(self) -> None:
        """Raise EngineUnavailable unless the engine responds within 2 seconds, or 4 seconds at the first use."""
        with suppress(EngineRejected), _engine_faults():
            self._connected(PING_TIMEOUT).ping()

    def find(self, reference: str) -> EngineImage | None:
        """Return the image under `reference`, None if there is none. Raises EngineUnavailable or EngineRejected."""
        with _engine_faults():
            try:
                attributes = self._queries.inspect_image(reference)
            except docker.errors.NotFound:
                return None
        with _nonsense_refused():
            root = attributes.get("RootFS") or {}
            return EngineImage(
                id=_with_algorithm(attributes["Id"]),
                layers=tuple(root.get("Layers") or ()),
                size=attributes.get("Size") or 0,
                named=bool(attributes.get("RepoTags")),
                platform="/".join(filter(None, map(attributes.get, ("Os", "Architecture", "Variant")))),
            )

    def holds(self, expected: Iterable[Image]) -> bool:
        """Return whether every expected image is in the engine. Raises EngineUnavailable or EngineRejected."""
        return all(found is not None and found.is_image_of(image) for image, found in self._look_up(expected))

    def verify(self, expected: Iterable[Image]) -> None:
        """Raise ImageMismatch for the first expected image that is not in the engine, or is not exactly that image."""
        for image, found in self._look_up(expected):
            if found is None:
                raise ImageMismatch(f"After the load the engine has no image {image.reference}.")
            if not found.is_image_of(image):
                raise ImageMismatch(f"After the load {image.reference} is not the image of the archive.")

    def describe(self) -> EngineDescription:
        """Return what the engine tells about itself. Raises EngineUnavailable, and EngineRejected for nonsense.

        A proxy in front of the engine may forbid the requests. The classic store is assumed then.
        """
        with _nonsense_refused():
            info, version = self._told("info"), self._told("version")
            store, system, architecture = _store(info, version), version.get("Os"), version.get("Arch")
            return EngineDescription(
                root=_path(info.get("DockerRootDir")),
                store=store,
                platform=f"{system}/{architecture}" if system and architecture else "",
                copies=_path(self._podman_store().get("imageCopyTmpDir")) if store is Store.PODMAN else None,
            )

    def load(self, tar: Iterable[bytes | memoryview], on_unpacked: Callable[[int], None] = lambda _: None) -> None:
        """Load the layout of one image.

        `on_unpacked` gets the bytes of layers that were unpacked so far, if the engine tells. Raises EngineRejected if
        the engine refuses the tar, DiskSpace if its disk is full, EngineStalled if it falls silent, EngineUnavailable,
        and what `tar` raises; the engine then keeps nothing.
        """
        api = self._transfers
        unpacked: dict[str, int] = {}
        try:
            # quiet=False makes the engine report on each layer, because a silent engine would look stalled.
            for message in api.load_image(tar, quiet=False):
                with _nonsense_refused():
                    _raise_if_refused(message)
                    detail = message.get("progressDetail") or {}
                    unpacked[message.get("id", "")] = int(detail.get("current") or 0)
                on_unpacked(sum(unpacked.values()))
        except docker.errors.APIError as exc:
            raise _refusal(exc.explanation or exc) from exc
        except FOREIGN_ERRORS as exc:
            raise _stalled_or_gone(exc) from exc

    def name(self, present: str, reference: str) -> None:
        """Give the image under the name `present` the further name `reference`. Raises EngineUnavailable."""
        with _engine_faults():
            self._queries.tag(present, *split_tag(reference))

    def restore(self, reference: str, image: EngineImage | None) -> None:
        """Make `reference` name `image` again, or nothing if that is None.

        Removes the image that `reference` names now, unless it has another name.
        """
        present = self.find(reference)
        if present == image:
            return
        with _engine_faults():
            if image is not None:
                self._queries.tag(image.id, *split_tag(reference))
            elif present is not None:
                self._queries.remove_image(reference)
        if image is not None and present is not None:
            self.remove_if_dangling(present)

    def remove_if_dangling(self, image: EngineImage) -> None:
        """Remove an image that has no name any more, unless a container uses it."""
        found = self.find(image.id)
        if found is None or found.named:
            return
        try:
            with _engine_faults():
                self._queries.remove_image(image.id)
        except EngineRejected as exc:
            log.info("a replaced image was not removed: %s", exc)

    def save(self, references: list[str], platform: str | None = None) -> Iterator[bytes]:
        """Yield the tar of these images in the form of `docker save`. Raises EngineUnavailable or EngineRejected.

        An engine that may hold an image for several platforms is asked for `platform`.
        """
        api = self._transfers
        # This calls the engine's API directly, because the SDK saves only one image; a tar of several images holds a
        # shared layer once.
        url = f"{api.base_url}/v{api.api_version}/images/get"
        parameters: dict[str, Any] = {"names": references}
        if platform is not None and docker.utils.version_gte(api.api_version, PLATFORM_API):
            parameters["platform"] = _platform_document(platform)
        with (
            _engine_faults(),
            api.get(url, params=parameters, stream=True, timeout=self._timeout) as response,
        ):
            if response.status_code != 200:
                raise EngineRejected(f"The Docker engine could not save the images: {_explanation(response)}.")
            yield from response.iter_content(SAVE_READ_SIZE)

    def _told(self, question: str) -> dict[str, Any]:
        try:
            with _engine_faults():
                return dict(getattr(self._queries, question)())
        except EngineRejected:
            return {}

    def _podman_store(self) -> dict[str, Any]:
        """Return what podman tells about its directories; nothing if a proxy forbids the request."""
        api = self._queries
        # Docker's API has no such question, and the SDK speaks only Docker's API.
        with _engine_faults():
            response = api.get(f"{api.base_url}/{PODMAN_API}/libpod/info", timeout=api.timeout)
            return dict(response.json().get("store") or {}) if response.status_code == 200 else {}

    def _look_up(self, images: Iterable[Image]) -> Iterator[tuple[Image, EngineImage | None]]:
        return ((image, self.find(image.reference)) for image in images)

    @property
    def _queries(self) -> Any:
        return self._connected(min(QUERY_TIMEOUT, self._timeout))

    @property
    def _transfers(self) -> Any:
        return self._connected(self._timeout)

    def _connected(self, timeout: float) -> Any:
        # The constructor asks the engine for its version. Keep a client only once that succeeded, and hold no lock
        # meanwhile, because other threads must not wait for an engine that is down.
        client = self._clients.get(timeout)
        if client is None:
            with _engine_faults():
                made = docker.from_env(timeout=timeout).api
            client = self._clients.setdefault(timeout, made)
            if client is not made:
                made.close()
        return client


def _store(info: dict[str, Any], version: dict[str, Any]) -> Store:
    if any(component.get("Name") == PODMAN for component in version.get("Components") or []):
        return Store.PODMAN
    containerd = any(CONTAINERD_DRIVER in entry for entry in info.get("DriverStatus") or [])
    return Store.CONTAINERD if containerd else Store.CLASSIC


def _path(told: str | None) -> Path | None:
    return Path(told) if told else None


@contextmanager
def _engine_faults() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as exc:
        raise EngineRejected(f"The Docker engine refused a request: {_one_line(exc.explanation or exc)}.") from exc
    except FOREIGN_ERRORS as exc:
        raise EngineUnavailable("The Docker engine does not respond.") from exc


@contextmanager
def _nonsense_refused() -> Iterator[None]:
    """Raise EngineRejected if the block cannot use what the engine has told."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EngineRejected("The Docker engine gave a response that its API does not have.") from exc


def _raise_if_refused(message: dict[str, Any]) -> None:
    """Raise if `message` reports an error: the engine responds 200 before it reads the tar, and fails in the stream."""
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


def _one_line(text: object) -> str:
    # podman reports its attempts on several lines.
    return " ".join(str(text).split()).rstrip(".")


def _stalled_or_gone(exc: Exception) -> LoaderError:
    if _timed_out(exc):
        return EngineStalled("The Docker engine fell silent during the load.")
    return EngineUnavailable("The connection to the Docker engine was lost during the load.")


def _timed_out(exc: BaseException) -> bool:
    """Return whether `exc` is a timeout, or wraps one in its arguments, as the SDK's HTTP library does."""
    wrapped = [arg for arg in exc.args if isinstance(arg, BaseException)]
    return isinstance(exc, TimeoutError | urllib3.exceptions.TimeoutError) or any(map(_timed_out, wrapped))


def _with_algorithm(image_id: str) -> str:
    # podman returns the digest without the name of its algorithm.
    return image_id if image_id.startswith("sha256:") else f"sha256:{image_id}"


def _platform_document(platform: str) -> str:
    """Return `os/architecture[/variant]` as the API takes it."""
    return json.dumps(dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)))


def _explanation(response: Any) -> str:
    """Return what the engine says in a response that is no success."""
    try:
        return _one_line(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
