"""The images of a docker-archive: its manifest.json, as `docker save`, skopeo, podman, buildx and kaniko write it.

Source: the Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import functools
import re
from typing import Any

from loader.errors import SourceCorrupt
from loader.packing.members import member_name
from loader.packing.source_images import (
    Read,
    SourceFile,
    SourceImage,
    full_name,
    malformed,
    parse,
    read_settings,
)

MANIFEST = "manifest.json"
MAX_ENTRIES = 4096
# docker before 25, skopeo and podman write `<digest>.json`, docker from 25 on `blobs/sha256/<digest>`, and kaniko
# `sha256:<digest>`.
_CONFIG = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


def docker_images(data: bytes, read: Read) -> list[SourceImage]:
    """Return the images that a manifest.json names. Raises SourceCorrupt."""
    images = []
    entries = parse(MANIFEST, data, list)
    if len(entries) > MAX_ENTRIES:
        raise SourceCorrupt(f"The source names more than {MAX_ENTRIES} images.")
    # Read each configuration once, because many entries may name the same one.
    settings_of = functools.cache(lambda file: read_settings(file, read))
    for entry in entries:
        config, names, layers = _fields(entry)
        file = _file(config, _CONFIG)
        settings = settings_of(file)
        files = tuple(_file(layer, _BLOB) for layer in layers)
        images.append(
            SourceImage(
                frozenset(map(full_name, names)), frozenset({settings.digest}), settings.platform, file, settings, files
            )
        )
    return images


def _fields(entry: Any) -> tuple[str, list[str], list[str]]:
    if not isinstance(entry, dict):
        raise malformed(MANIFEST)
    config, names, layers = entry.get("Config"), entry.get("RepoTags") or [], entry.get("Layers") or []
    if not (isinstance(config, str) and isinstance(names, list) and isinstance(layers, list)):
        raise malformed(MANIFEST)
    if not all(isinstance(text, str) for text in (*names, *layers)):
        raise malformed(MANIFEST)
    return config, names, layers


def _file(name: str, told: re.Pattern[str]) -> SourceFile:
    """Return a file with the digest that its name tells."""
    found = told.fullmatch(name)
    return SourceFile(member_name(name), f"sha256:{found[1]}" if found else None)
