"""The calls to the Docker engine, in the loader's own terms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from operator import length_hint
from typing import Any
from urllib.parse import quote

from loader.crypto.archive_head import Image
from loader.docker_engine.connection import Absent, Connection, NotPermitted, speaks
from loader.docker_engine.description import (
    EngineDescription,
    EngineImage,
    Store,
    is_podman,
    nonsense_refused,
)
from loader.docker_engine.inventory import StoredImage, stored_images
from loader.docker_engine.permissions import CONTAINER_REQUESTS, IMAGE_REQUESTS, refusals
from loader.docker_engine.proof import NotRunnable, prove_by_container, remove_proofs
from loader.docker_engine.reasons import error_in, is_blob_lost
from loader.docker_engine.saving import save
from loader.errors import DiskSpace, EngineRejected, ImageMismatch, LoaderError
from loader.references import split_tag

log = logging.getLogger(__name__)

# The first version of the API whose inspection of an image can tell of its manifests.
MANIFESTS_API = "1.48"
# The oldest of podman's own APIs that every later version speaks.
PODMAN_API = "v4.0.0"


class DockerEngine:
    """The engine at DOCKER_HOST. Connects when first used. Safe to share between threads."""

    def __init__(self, timeout: float) -> None:
        """`timeout` is how many seconds the engine may be silent during a load or a save."""
        self._connection = Connection(timeout)

    def ping(self) -> None:
        """Raise EngineUnavailable unless the engine responds within 2 seconds.

        The engine has 4 seconds at the first use, and 6 seconds if it speaks another version of its API than before.
        """
        self._connection.renegotiated(self._ping)

    def check_settings(self) -> None:
        """Raise EngineUnavailable if DOCKER_HOST, or a setting beside it, cannot be used. Asks no engine."""
        self._connection.check_settings()

    def refusals(self, store: Store) -> tuple[LoaderError, ...]:
        """Return an error for each request of an unlock that a proxy in front of the engine refuses; changes nothing.

        Only with the containerd store an unlock makes containers. Raises EngineUnavailable.
        """
        containers = CONTAINER_REQUESTS if store.may_be_containerd else ()
        return tuple(refusals(self._connection, (*IMAGE_REQUESTS, *containers)))

    def find(self, reference: str) -> EngineImage | None:
        """Return the image under `reference`, None if there is none or if the engine has lost what describes it.

        Raises EngineUnavailable, EngineRejected, and DiskSpace if the disk of the engine is too full to look.
        """
        try:
            return EngineImage.read(self._connection.renegotiated(lambda: self._inspected(reference)))
        except EngineRejected as exc:
            if isinstance(exc, Absent) or is_blob_lost(str(exc)):
                return None
            raise

    def list_images(self) -> tuple[StoredImage, ...]:
        """Return all images of the engine. Raises EngineUnavailable, EngineRejected or DiskSpace."""
        return stored_images(self._connection)

    def prove(self, expected: Iterable[Image]) -> None:
        """Raise ImageMismatch for the first expected image that is not in the engine, or is not exactly that image.

        Raises NotRunnable or DiskSpace for one that cannot be run, because the containerd store takes images that it
        cannot unpack, EngineRejected if a proxy forbids the proof, EngineStalled and EngineUnavailable.
        """
        for image in expected:
            found = self.find(image.reference)
            if found is None:
                raise ImageMismatch(f"After the load the engine has no image {image.reference}.")
            if not found.has_id_of(image):
                raise ImageMismatch(f"After the load {image.reference} is not the image of the archive.")
            if not found.available:
                lacking = f"The Docker engine has not all of {image.reference}, so that it cannot be run."
                raise NotRunnable(lacking, image.reference)
            if found.needs_container(image):
                prove_by_container(self._connection, image.reference, found.id)

    def can_run(self, image: Image) -> bool:
        """Return whether exactly this image is in the engine and can be run. May make a container to know it.

        Raises DiskSpace, EngineRejected if a proxy forbids the proof, EngineStalled and EngineUnavailable.
        """
        try:
            self.prove([image])
        except (NotRunnable, ImageMismatch):
            return False
        return True

    def remove_proofs(self) -> None:
        """Remove the containers of proofs that have not ended. Raises EngineUnavailable."""
        remove_proofs(self._connection)

    def describe(self) -> EngineDescription:
        """Return what the engine tells about itself. Raises EngineUnavailable, and EngineRejected for nonsense.

        A proxy in front of the engine may forbid the requests. The store is not known then.
        """
        with nonsense_refused():
            info = self._told(lambda api: api.info())
            version = self._told(lambda api: api.version())
        podman_store = self._podman_store() if is_podman(version) else {}
        return EngineDescription.read(info, version, podman_store)

    def load(self, tar: Iterable[bytes | memoryview], on_unpacked: Callable[[int], None] = lambda _: None) -> None:
        """Load the layout of one image.

        `on_unpacked` gets the bytes of layers that were unpacked so far, if the engine tells. Raises EngineRejected if
        the engine refuses the tar, DiskSpace if its disk is full, EngineStalled if it falls silent, EngineUnavailable,
        and what `tar` raises; the engine then keeps nothing. The length of `tar`, if it has one, gives the engine time.
        """
        api = self._connection.loads(length_hint(tar))
        unpacked: dict[str, int] = {}
        with self._connection.load_faults():
            # quiet=False makes the engine report on each layer, because a silent engine would look stalled.
            for message in api.load_image(tar, quiet=False):
                with nonsense_refused():
                    if said := error_in(message):
                        raise self._connection.refusal(said, "refused the images")
                    detail = message.get("progressDetail") or {}
                    unpacked[message.get("id", "")] = int(detail.get("current") or 0)
                on_unpacked(sum(unpacked.values()))

    def patience(self, size: int) -> float:
        """Return how many seconds the engine may work on a load of `size` bytes without a sign."""
        return self._connection.patience(size)

    def name(self, present: str, reference: str) -> None:
        """Give the image under the name `present` the further name `reference`. Raises EngineUnavailable."""
        with self._connection.faults():
            self._connection.queries.tag(present, *split_tag(reference))

    def remove_name(self, reference: str) -> None:
        """Remove a name, and its image if that has no other one. Raises EngineUnavailable, EngineRejected or Absent.

        An image that a container uses keeps its last name: that is EngineRejected.
        """
        with self._connection.faults():
            self._connection.queries.remove_image(reference)

    def remove_nameless(self, image_id: str) -> None:
        """Remove an image if it has no name, as far as the engine lets it. Raises EngineUnavailable and DiskSpace."""
        with suppress(EngineRejected):
            found = self.find(image_id)
            if found is not None and not found.named:
                self.remove_name(image_id)

    def drop_name(self, name: str, other: str) -> None:
        """Remove a name as `remove_name` does. `other` names another image than `name`, or the same.

        If a container uses the image, only the name goes; it stays, with a warning in the log, if the engine has
        nothing under `other`. Raises EngineUnavailable, and EngineRejected if a proxy forbids the requests.
        """
        try:
            self.remove_name(name)
        except Absent:
            return
        except NotPermitted:
            raise
        except EngineRejected as refused:
            # To force the engine would remove the image of a stopped container, and with podman the container. A name
            # that moves to another image leaves the former one behind.
            try:
                self.name(other, name)
            except Absent:
                log.warning("%s stays until `azaion-loader images prune` can remove it: %s", name, refused)
                return
            self.remove_name(name)

    def save(self, references: list[str], platform: str | None = None) -> Iterator[bytes]:
        """Yield the tar of these images in the form of `docker save`.

        An engine that may hold an image for several platforms is asked for `platform`. Raises EngineUnavailable,
        EngineRejected or DiskSpace.
        """
        return save(self._connection, references, platform)

    def _ping(self) -> None:
        with suppress(EngineRejected, DiskSpace), self._connection.faults():
            self._connection.pings.ping()

    def _inspected(self, reference: str) -> dict[str, Any]:
        api = self._connection.queries
        if not speaks(api, MANIFESTS_API):
            with nonsense_refused(), self._connection.faults():
                return dict(api.inspect_image(reference))
        # The SDK cannot ask for the manifests, which say what of an image was unpacked.
        url = f"{api.base_url}/v{api.api_version}/images/{quote(reference, safe='/:')}/json"
        with nonsense_refused(), self._connection.faults():
            response = api.get(url, params={"manifests": "1"}, timeout=api.timeout)
            if response.status_code != HTTPStatus.OK:
                raise self._connection.refusal_in(response, "refused a request")
            return dict(response.json())

    def _told(self, ask: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the response to a question, empty if it is refused."""
        with suppress(EngineRejected, DiskSpace), self._connection.faults():
            return dict(ask(self._connection.queries))
        return {}

    def _podman_store(self) -> dict[str, Any]:
        """Return what podman tells about its directories; nothing if a proxy forbids the request."""
        api = self._connection.queries
        # Docker's API has no such question, and the SDK speaks only Docker's API.
        with nonsense_refused(), self._connection.faults():
            response = api.get(f"{api.base_url}/{PODMAN_API}/libpod/info", timeout=api.timeout)
            return dict(response.json().get("store") or {}) if response.status_code == 200 else {}
