"""The images of the stand-in in newer_engine.py, and what it tells about them."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

from loader.references import full_reference

NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class StoredImage:
    """An image in the store. `unpacked` is the size of its snapshots in bytes, 0 if it cannot run."""

    id: str
    config: dict[str, Any]
    size: int
    unpacked: int
    available: bool = True


@dataclass(frozen=True)
class UnpackFault:
    """What happens to a load: the image is there, but not unpacked. A `text` follows "Loaded image"."""

    text: str = ""
    available: bool = True


@dataclass
class Store:
    """Images by their IDs, the ID of each full name, and the containers that were made and not removed."""

    images: dict[str, StoredImage] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    containers: set[str] = field(default_factory=set)

    def find(self, text: str) -> StoredImage | None:
        """Return the image with this ID or name."""
        if text in self.images:
            return self.images[text]
        return None if text.startswith("sha256:") else self.images.get(self.names.get(full_reference(text), ""))

    def name(self, reference: str, id_: str) -> None:
        """Let a name move to an image; one that has lost its last name is gone."""
        self.names[reference] = id_
        self.drop_unnamed()

    def drop_unnamed(self) -> None:
        """Forget the images without a name."""
        self.images = {id_: image for id_, image in self.images.items() if id_ in self.names.values()}


def read_layout(tar: bytes) -> tuple[str, StoredImage]:
    """Return the name and the image of an OCI layout with one image."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:

        def read(name: str) -> dict[str, Any]:
            file = archive.extractfile(name)
            assert file is not None
            return dict(json.load(file))

        (descriptor,) = read("index.json")["manifests"]
        manifest = read(f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}")
        config = read(f"blobs/sha256/{manifest['config']['digest'].removeprefix('sha256:')}")
    size = sum(layer["size"] for layer in manifest["layers"])
    return descriptor["annotations"][NAME], StoredImage(descriptor["digest"], config, size, size)


def inspected(store: Store, image: StoredImage, *, manifests: bool = False) -> dict[str, Any]:
    """Return the response to an inspection, with `Manifests` as API 1.48 shows them if they are asked for."""
    names = [name for name, id_ in store.names.items() if id_ == image.id]
    document = {
        "Id": image.id,
        "RepoTags": [name.removeprefix("docker.io/") for name in names],
        "Os": image.config["os"],
        "Architecture": image.config["architecture"],
        "RootFS": {"Type": "layers", "Layers": image.config["rootfs"]["diff_ids"]},
        "Size": image.size,
    }
    if manifests:
        platform = {"os": image.config["os"], "architecture": image.config["architecture"]}
        data = {"Platform": platform, "Containers": [], "Size": {"Unpacked": image.unpacked}}
        size = {"Total": image.size + image.unpacked, "Content": image.size}
        told = {"ID": image.id, "Kind": "image", "Available": image.available, "Size": size, "ImageData": data}
        document["Manifests"] = [told]
    return document
