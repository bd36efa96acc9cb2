"""What a source says about its images. Nothing of it is true before `choice` has compared it with the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loader.errors import CorruptCiphertext, SourceCorrupt
from loader.oci import digest_of, parse_json
from loader.packing.configurations import parse_configuration
from loader.references import MalformedReference, full_reference

# Returns the content of a small file of the source by its name, None if there is none. Raises SourceCorrupt.
Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class SourceFile:
    """A file that an image consists of: `digest` and `size` in bytes are what the source tells, if it does."""

    name: str
    digest: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Settings:
    """What the packer reads of the configuration of an image, or a sentence that says why it cannot be used.

    `digest` is that of the configuration; the other fields are those of `Image`.
    """

    digest: str
    platform: str
    created: str
    diff_ids: tuple[str, ...]
    fault: str = ""


@dataclass(frozen=True)
class SourceImage:
    """One image for one platform.

    `names` are full references. `ids` are the digests under which engines know it: of its configuration, its manifest,
    and the indexes that lead to it. `platform` is the one that its descriptor tells, or else its configuration.
    """

    names: frozenset[str]
    ids: frozenset[str]
    platform: str
    config: SourceFile
    settings: Settings
    layers: tuple[SourceFile, ...]

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files that it consists of. Images with the same files are the same image."""
        return (self.config, *self.layers)


def parse(name: str, data: bytes, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """Return the JSON in a file of the source, an array or an object. Raises SourceCorrupt."""
    try:
        document = parse_json(data)
    except (ValueError, RecursionError) as exc:
        raise SourceCorrupt(f"{name!r} of the source is not JSON.") from exc
    if not isinstance(document, kind):
        raise malformed(name)
    return document


def malformed(name: str) -> SourceCorrupt:
    """Return the error for a description that breaks its format."""
    return SourceCorrupt(f"{name!r} of the source does not describe images as it should.")


def missing(name: str) -> SourceCorrupt:
    """Return the error for a file that the source should have."""
    return SourceCorrupt(f"The source has no {name!r}, which one of its images needs.")


def read_settings(file: SourceFile, read: Read) -> Settings:
    """Read a configuration. Its fault is no error yet, because maybe nobody wants the image."""
    try:
        data = read(file.name)
        if data is None:
            raise missing(file.name)
    except SourceCorrupt as exc:
        return Settings(file.digest or "", "", "", (), str(exc))
    try:
        parsed = parse_configuration(data)
    except CorruptCiphertext as exc:
        return Settings(digest_of(data), "", "", (), f"{file.name!r} of the source is malformed: {exc}.")
    return Settings(digest_of(data), parsed.platform, parsed.created, parsed.diff_ids)


def full_name(text: str) -> str:
    """Return the full reference that a source tells. Raises SourceCorrupt if it is none."""
    try:
        return full_reference(text)
    except MalformedReference as exc:
        raise SourceCorrupt(f"The source gives an image the malformed name {text!r}.") from exc


def names_of(images: Sequence[SourceImage]) -> list[str]:
    """Return all names of images, sorted."""
    return sorted({name for image in images for name in image.names})
