"""OCI images: their manifests and configurations, and the layout in which an engine takes one image.

Sources: OCI image specification 1.1 (manifest.md, config.md, image-layout.md), and the manifest.json of `docker save`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from loader.crypto.archive_head import Head, Image
from loader.errors import CorruptCiphertext
from loader.references import split_tag

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
BLOBS = "blobs/sha256/"
_CONFIG_FIELDS = frozenset({"os", "architecture", "variant", "created", "rootfs"})
_ROOTFS_FIELDS = frozenset({"diff_ids"})
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
TAR_END = bytes(2 * tarfile.BLOCKSIZE)


def digest_of(data: bytes) -> str:
    """Return the digest of `data` as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    """Return the descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest, "size": size}


def write_manifest(config: tuple[str, int], layers: Sequence[tuple[str, int]]) -> bytes:
    """Return the manifest of an image of plain layers; each blob is its digest and its size in bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, *config),
        "layers": [descriptor(LAYER_TYPE, *layer) for layer in layers],
    }
    return compact(document)


def require_described(head: Head, image: Image, manifest: bytes, config: bytes) -> None:
    """Raise CorruptCiphertext unless manifest and configuration, whose digests are proven, say what the head says."""
    size = {digest: head.blob[digest].size for digest in image.blobs}
    blobs = [(CONFIG_TYPE, image.config), *((LAYER_TYPE, layer) for layer in image.layers)]
    if _manifest_blobs(manifest) != [(media_type, digest, size[digest]) for media_type, digest in blobs]:
        raise CorruptCiphertext(f"the manifest of {image.reference} is not the one that its head describes")
    described = ImageConfig.parse(config)
    if (described.platform, described.created, described.diff_ids) != (image.platform, image.created, image.layers):
        raise CorruptCiphertext(f"the configuration of {image.reference} is not the one that its head describes")


def _manifest_blobs(manifest: bytes) -> list[tuple[str, str, int]]:
    """Return type, digest and size of configuration and layers that a manifest names; nothing if it is malformed."""
    try:
        document = parse_json(manifest)
        entries = [document["config"], *document["layers"]] if document["mediaType"] == MANIFEST_TYPE else []
        return [(entry["mediaType"], entry["digest"], entry["size"]) for entry in entries]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []


@dataclass(frozen=True)
class ImageConfig:
    """What the loader reads of the configuration of an image; the fields are those of `Image`."""

    platform: str
    created: str
    diff_ids: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> ImageConfig:
        """Parse a configuration. Raises CorruptCiphertext if it is none."""
        try:
            document = parse_json(data)
            platform = [document["os"], document["architecture"], document.get("variant") or ""]
            created, diff_ids = document.get("created") or "", document["rootfs"]["diff_ids"] or []
            texts = all(isinstance(text, str) for text in (*platform, created, *diff_ids))
            clear = _is_clear(document, _CONFIG_FIELDS) and _is_clear(document["rootfs"], _ROOTFS_FIELDS)
            if texts and clear and (not created or RFC_3339.fullmatch(created)):
                return cls("/".join(filter(None, platform)), created, tuple(diff_ids))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            pass
        raise CorruptCiphertext("a configuration of an image in it is malformed")


@dataclass(frozen=True)
class Layout:
    """One image as a tar that every engine takes: an OCI layout of one entry, with the manifest.json of `docker save`.

    `layers` are those that are sent; the engine has the others. Names of members are digests, because an engine that
    was interrupted keeps what it has got under the name of the member. `blobs` and `size` are kept once they are known,
    because a load asks for them at each piece.
    """

    head: Head = field(repr=False, compare=False)
    image: Image
    layers: tuple[str, ...]

    @cached_property
    def blobs(self) -> tuple[str, ...]:
        """The digests of the blobs that are sent, each once, in their order."""
        return tuple(dict.fromkeys((self.image.manifest, self.image.config, *self.layers)))

    @cached_property
    def size(self) -> int:
        """The size of the tar in bytes."""
        blobs = sum(member_size(self.head.blob[digest].size) for digest in self.blobs)
        return sum(map(len, self.listing())) + blobs + len(TAR_END)

    def listing(self) -> tuple[bytes, ...]:
        """Return the members that come before the blobs, each as header, content and padding."""
        image = self.image
        manifest = descriptor(MANIFEST_TYPE, image.manifest, self.head.blob[image.manifest].size)
        system, architecture, *variant = image.platform.split("/")
        manifest["platform"] = {"architecture": architecture, "os": system} | (
            {"variant": variant[0]} if variant else {}
        )
        manifest["annotations"] = {
            "io.containerd.image.name": image.reference,
            "org.opencontainers.image.ref.name": split_tag(image.reference)[1],
        }
        paths = {
            "Config": blob_path(image.config),
            "RepoTags": [image.reference],
            "Layers": list(map(blob_path, image.layers)),
        }
        files = {
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
            "index.json": {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [manifest]},
            "manifest.json": [paths],
        }
        return tuple(_small_member(name, compact(document)) for name, document in files.items())


def blob_path(digest: str) -> str:
    """Return where a blob lies in a layout."""
    return BLOBS + digest.removeprefix("sha256:")


def member_header(name: str, size: int) -> bytes:
    """Return the header of a regular file in a tar."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what follows the content of a file of `size` bytes in a tar."""
    return bytes(-size % tarfile.BLOCKSIZE)


def member_size(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes in a tar."""
    return tarfile.BLOCKSIZE + size + len(padding(size))


def compact(document: Any) -> bytes:
    """Return the JSON of `document` without white space; the same document gives the same bytes."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(data: bytes) -> Any:
    """Return the JSON in `data`. Raises ValueError or RecursionError.

    Refuses what Python takes and no engine does: UTF-16, UTF-32, a byte order mark, and numbers such as NaN.
    """
    return json.loads(data.decode(), parse_constant=_refuse_constant)


def _is_clear(document: dict[str, Any], fields: frozenset[str]) -> bool:
    """Return whether no key is one of `fields` in other letters: engines in Go would take that one (encoding/json)."""
    return all(key in fields or key.casefold() not in fields for key in document)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _small_member(name: str, data: bytes) -> bytes:
    return member_header(name, len(data)) + data + padding(len(data))
