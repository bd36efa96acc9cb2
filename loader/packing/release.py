"""A release: its version, serial and names, and what no archive can hold, told as early as possible."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from loader.crypto.archive_head import (
    MAX_BLOBS,
    MAX_LAYERS,
    MAX_REFERENCES,
    PLAIN,
    Blob,
    Head,
    Image,
    Packed,
    Release,
    StoredHead,
    is_platform,
)
from loader.crypto.archive_seals import ROOT_ID_SIZE
from loader.docker_engine import EngineImage
from loader.errors import SourceCorrupt, ValidationFailed
from loader.oci import digest_of
from loader.references import MalformedReference, full_reference, is_own_reference, is_version, split_tag


def full_references(names: Iterable[str]) -> dict[str, str]:
    """Return each name by the full reference that it stands for, each reference once. Raises ValidationFailed."""
    references: dict[str, str] = {}
    for name in names:
        try:
            reference = full_reference(name)
        except MalformedReference as exc:
            raise ValidationFailed(str(exc)) from exc
        if is_own_reference(reference):
            raise ValidationFailed(f"{name} is a name that the loader itself gives images during an unlock.")
        references.setdefault(reference, name)
    require_count(len(references))
    return references


def new_release(references: Iterable[str], version: str | None, serial: int | None) -> Release:
    """Return a release of now. The default of `version` is the tag that all names share, of `serial` the seconds since
    the epoch. Raises ValidationFailed.
    """
    if version is None:
        tags = sorted({str(split_tag(reference)[1]) for reference in references})
        if len(tags) != 1:
            raise ValidationFailed(f"The images have several tags ({', '.join(tags)}): say the version with --version.")
        version = tags[0]
    if not is_version(version):
        raise ValidationFailed(f"{version!r} is not a version: it must have the form of a tag.")
    return Release(version, int(time.time()) if serial is None else serial, now())


def serial_after(base: Release) -> int:
    """Return the default serial of a release after `base`: the seconds since the epoch, but more than its serial."""
    return max(int(time.time()), base.serial + 1)


def now() -> str:
    """Return the time in the form of RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def require_count(references: int) -> None:
    """Raise ValidationFailed if an archive cannot hold so many names."""
    if references > MAX_REFERENCES:
        raise ValidationFailed(f"{references} images were named; an archive holds at most {MAX_REFERENCES} names.")


def require_layers(name: str, layers: int) -> None:
    """Raise ValidationFailed if an image has too many layers."""
    if layers > MAX_LAYERS:
        raise ValidationFailed(f"The image {name} has {layers} layers; an archive holds at most {MAX_LAYERS} an image.")


def require_describable(head: Head) -> None:
    """Raise ValidationFailed if the head is too large, and SourceCorrupt if the images break a rule of the format."""
    require_size(head)
    try:
        StoredHead.of(head)
    except ValueError as exc:
        raise SourceCorrupt(f"The images cannot be packed: {exc}.") from exc


def require_size(head: Head) -> None:
    """Raise ValidationFailed if the head is too large."""
    if len(head.blobs) > MAX_BLOBS:
        raise ValidationFailed(f"The images consist of {len(head.blobs)} blobs; an archive holds at most {MAX_BLOBS}.")
    try:
        head.to_bytes()
    except ValueError as exc:
        raise ValidationFailed(f"The images are too many for one archive: {exc}.") from exc


def require_room(release: Release, images: Mapping[str, EngineImage]) -> None:
    """Raise ValidationFailed if an archive cannot hold these images of an engine, by their full references.

    Raises SourceCorrupt for an image with a malformed platform.
    """
    described, blobs = [], dict[str, None]()
    for reference, image in images.items():
        require_layers(reference, len(image.layers))
        # Some engines describe an image of another platform only in part.
        if "/" in image.platform and not is_platform(image.platform):
            raise SourceCorrupt(
                f"The image {reference} cannot be packed: its platform {image.platform!r} is malformed."
            )
        # Only the length of these two digests counts, and that they differ.
        manifest, config = image.id, digest_of(image.id.encode())
        described.append(Image(reference, image.platform, "", manifest, config, image.layers))
        blobs |= dict.fromkeys((manifest, config, *image.layers))
    # Sizes are unknown, so this finds only what surely has no room.
    stored = [Blob(digest, 0, PLAIN, Packed(digest.removeprefix("sha256:"), 0), "0" * 64) for digest in blobs]
    require_size(Head(release, "0" * (2 * ROOT_ID_SIZE), tuple(described), tuple(stored)))
