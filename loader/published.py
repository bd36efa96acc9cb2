"""Releases at the resource API: a head for each version, and the blobs that the releases share.

    images/{version}.head     an archive without any blob
    images/{digest}.blob      the stored bytes of a blob, named by their piece digest

The head `images/latest.head` is a copy of that of the newest release.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from loader.api_client import get_api_client
from loader.crypto.archive import HEAD_MAX_SIZE, ArchiveIndex
from loader.crypto.archive_head import Blob
from loader.crypto.json_header import require
from loader.errors import CorruptCiphertext, ResourceCorrupt

PREFIX = "images/"
HEAD_SUFFIX = ".head"


def head_path(version: str) -> str:
    """Return the path of the head of a release."""
    return f"{PREFIX}{version}{HEAD_SUFFIX}"


def blob_path(blob: Blob) -> str:
    """Return the path of the stored bytes of a blob."""
    return f"{PREFIX}{blob.stored}.blob"


def published_objects() -> dict[str, int]:
    """Return the paths of all heads and blobs at the API, and their sizes in bytes. Raises what `list_objects` does."""
    return get_api_client().list_objects(PREFIX)


def published_versions(objects: Mapping[str, int]) -> list[str]:
    """Return the versions that have a head among these objects, and LATEST if there is one."""
    return [
        path.removeprefix(PREFIX).removesuffix(HEAD_SUFFIX) for path in sorted(objects) if path.endswith(HEAD_SUFFIX)
    ]


def published_head(version: str) -> ArchiveIndex:
    """Return the head that the API has for a version, of which nothing is authentic.

    Raises ResourceNotFound, ResourceCorrupt, and what the client of the API raises.
    """
    data = get_api_client().small_object(head_path(version), HEAD_MAX_SIZE)
    try:
        index = ArchiveIndex.read(io.BytesIO(data), len(data))
        require(not index.offsets, "present")
    except CorruptCiphertext as exc:
        raise ResourceCorrupt(f"The head of release {version} at the resource API is damaged: {exc}.") from exc
    return index
