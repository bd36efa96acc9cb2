"""What an engine tells about itself and about its images, read from its JSON. No calls to the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from loader.crypto.archive_head import Image
from loader.errors import EngineRejected

# What the description of an engine says about its driver if containerd stores the images.
CONTAINERD_DRIVER = "io.containerd.snapshotter.v1"
# What podman calls itself among its components.
PODMAN = "Podman Engine"


class Store(StrEnum):
    """How an engine keeps images: in Docker's classic store, in Docker's containerd store, or as podman does.

    UNKNOWN is one of Docker's two stores, of an engine that does not tell which.
    """

    CLASSIC = "classic"
    CONTAINERD = "containerd"
    PODMAN = "podman"
    UNKNOWN = "unknown"

    @property
    def may_be_containerd(self) -> bool:
        """Whether containerd may store the images."""
        return self in (Store.CONTAINERD, Store.UNKNOWN)


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

    @classmethod
    def read(cls, info: dict[str, Any], version: dict[str, Any], podman_store: dict[str, Any]) -> EngineDescription:
        """Return what these responses tell. Raises EngineRejected if they are nonsense."""
        with nonsense_refused():
            system, architecture = version.get("Os"), version.get("Arch")
            return cls(
                root=_path(info.get("DockerRootDir")),
                store=_store(info, version),
                platform=f"{system}/{architecture}" if system and architecture else "",
                copies=_path(podman_store.get("imageCopyTmpDir")),
            )

    def runs(self, platform: str) -> bool:
        """Return whether images for `platform` are made for this engine. The variant of an architecture is ignored."""
        return not self.platform or platform.split("/")[:2] == self.platform.split("/")


@dataclass(frozen=True)
class EngineImage:
    """One image as the engine describes it.

    `layers` are diff IDs, `size` is in bytes, and `platform` is `os/architecture` or `os/architecture/variant`.
    `unpacked` says whether its unpacked layers take room on the disk, None if the engine does not tell. `available` is
    False if the engine says that it has not all of the image. `named` is False if it has no name.
    """

    id: str
    layers: tuple[str, ...]
    size: int
    platform: str = ""
    unpacked: bool | None = None
    available: bool = True
    named: bool = True

    @classmethod
    def read(cls, attributes: dict[str, Any]) -> EngineImage:
        """Return the image that the response to an inspection describes. Raises EngineRejected if it is nonsense."""
        with nonsense_refused():
            root = attributes.get("RootFS") or {}
            manifests = [each for each in attributes.get("Manifests") or () if each["Kind"] == "image"]
            return cls(
                id=with_algorithm(attributes["Id"]),
                layers=tuple(root.get("Layers") or ()),
                size=attributes.get("Size") or 0,
                platform="/".join(filter(None, map(attributes.get, ("Os", "Architecture", "Variant")))),
                # An image without layers has nothing to unpack.
                unpacked=any(map(_is_unpacked, manifests)) if root.get("Layers") and manifests else None,
                available=not manifests or any(manifest["Available"] for manifest in manifests),
                named=bool(attributes.get("RepoTags")),
            )

    def is_image_of(self, expected: Image) -> bool:
        """Return whether this is exactly the expected image, and nothing tells that it cannot be run."""
        return self.has_id_of(expected) and self.available and self.unpacked is not False

    def has_id_of(self, expected: Image) -> bool:
        """Return whether this has the ID of the expected image, which is a digest of all that makes an image."""
        return self.id in expected.ids

    def needs_container(self, expected: Image) -> bool:
        """Return whether only a container of this image shows that the expected image can be run.

        Only the containerd store names an image by its manifest. Unpacked layers of empty directories take no room on
        some file systems, such as XFS.
        """
        return self.id == expected.manifest and self.available and not self.unpacked


def _is_unpacked(manifest: dict[str, Any]) -> bool:
    # An engine may leave out what it does not have.
    size = (manifest.get("ImageData") or {}).get("Size") or {}
    return bool(manifest["Available"]) and int(size.get("Unpacked") or 0) > 0


def is_podman(version: dict[str, Any]) -> bool:
    """Return whether the engine with this version is podman. Raises EngineRejected if it is nonsense."""
    with nonsense_refused():
        return _store({}, version) is Store.PODMAN


def platform_document(platform: str) -> str:
    """Return `os/architecture[/variant]` as the API takes it."""
    return json.dumps(dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)))


def with_algorithm(image_id: str) -> str:
    """Return the ID of an image as Docker writes it; podman leaves out the name of the algorithm."""
    return image_id if image_id.startswith("sha256:") else f"sha256:{image_id}"


@contextmanager
def nonsense_refused() -> Iterator[None]:
    """Raise EngineRejected if the block cannot use what the engine has told."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EngineRejected("The Docker engine gave a response that its API does not have.") from exc


def _store(info: dict[str, Any], version: dict[str, Any]) -> Store:
    if any(component.get("Name") == PODMAN for component in version.get("Components") or []):
        return Store.PODMAN
    if "DriverStatus" not in info:
        return Store.UNKNOWN
    containerd = any(CONTAINERD_DRIVER in entry for entry in info["DriverStatus"] or [])
    return Store.CONTAINERD if containerd else Store.CLASSIC


def _path(told: str | None) -> Path | None:
    return Path(told) if told else None
