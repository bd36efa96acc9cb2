"""What an archive says about itself, as far as the caller decides it: its version, serial and names."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from loader.crypto.archive_head import Release
from loader.errors import ValidationFailed
from loader.packing.limits import require_count
from loader.references import MalformedReference, full_reference, is_version, split_tag


def full_references(names: Iterable[str]) -> dict[str, str]:
    """Return each name by the full reference that it stands for, each reference once. Raises ValidationFailed."""
    references: dict[str, str] = {}
    for name in names:
        try:
            references.setdefault(full_reference(name), name)
        except MalformedReference as exc:
            raise ValidationFailed(str(exc)) from exc
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


def now() -> str:
    """Return the time in the form of RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
