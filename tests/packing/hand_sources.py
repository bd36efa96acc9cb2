"""Sources of images as files by their names, which a test may change before it makes a tar or a directory of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.handmade_image import HandmadeImage, HandmadeLayer

# Contents by names; a text is the target of a symbolic link.
Files = dict[str, bytes | str]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NAME = "io.containerd.image.name"
TAG = "org.opencontainers.image.ref.name"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def content_of(layer: HandmadeLayer) -> bytes:
    return b"".join(layer.content())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def docker_files(*images: HandmadeImage, compressed: bool = False) -> Files:
    """Return a docker-archive in the form of skopeo: `<digest>.tar`, with links from `<number>/layer.tar`."""
    files: Files = {}
    entries = []
    for number, image in enumerate(images):
        paths = []
        for position, layer in enumerate(image.layers):
            data = content_of(layer)
            name = f"{sha256(data)}.tar"
            files[name] = gzip.compress(data, 6, mtime=0) if compressed else data
            paths.append(f"{number}.{position}/layer.tar")
            files[paths[-1]] = f"../{name}"
        config = f"{sha256(image.config)}.json"
        files[config] = image.config
        entries.append({"Config": config, "RepoTags": [image.reference], "Layers": paths})
    files["manifest.json"] = json.dumps(entries).encode()
    return files


def put_blob(files: Files, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
    """Add a blob to an OCI layout, and return its descriptor."""
    files[f"blobs/sha256/{sha256(data)}"] = data
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data), **fields}


def put_image(files: Files, image: HandmadeImage, *, compressed: bool = False, **fields: Any) -> dict[str, Any]:
    """Add an image to an OCI layout, and return the descriptor of its manifest."""
    layers = []
    for layer in image.layers:
        data = content_of(layer)
        data, kind = (gzip.compress(data, 6, mtime=0), f"{LAYER_TYPE}+gzip") if compressed else (data, LAYER_TYPE)
        layers.append(put_blob(files, data, kind))
    config = put_blob(files, image.config, CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
    return put_blob(files, json.dumps(manifest).encode(), MANIFEST_TYPE, **fields)


def put_index(files: Files, manifests: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Add a nested index to an OCI layout, and return its descriptor."""
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}).encode()
    return put_blob(files, data, INDEX_TYPE, **fields)


def finish_layout(files: Files, *manifests: dict[str, Any]) -> Files:
    """Add index.json and oci-layout to an OCI layout, and return it."""
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return files


def named(reference: str) -> dict[str, Any]:
    """Return the field of a descriptor that gives its image this full name."""
    return {"annotations": {NAME: reference}}


def oci_files(*images: HandmadeImage, compressed: bool = False) -> Files:
    """Return an OCI layout of these images under their names."""
    files: Files = {}
    made = [put_image(files, image, compressed=compressed, **named(image.reference)) for image in images]
    return finish_layout(files, *made)


def tar_of(files: Mapping[str, bytes | str]) -> bytes:
    """Return a tar of these files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return target.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes | str, kind: bytes = tarfile.REGTYPE) -> None:
    """Add one file or link to an open tar."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    if isinstance(content, str):
        entry.type, entry.linkname = tarfile.SYMTYPE if kind == tarfile.REGTYPE else kind, content
        archive.addfile(entry)
        return
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def directory_of(files: Mapping[str, bytes | str], path: Path) -> Path:
    """Write these files below the new directory `path`, and return it."""
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.symlink_to(content)
        else:
            target.write_bytes(content)
    return path


def source_of(files: Files, tmp_path: Path) -> Path:
    """Write a tar of these files below `tmp_path`, and return its path."""
    path = tmp_path / f"{sha256(tar_of(files))}.tar"
    path.write_bytes(tar_of(files))
    return path
