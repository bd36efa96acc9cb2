"""The chosen images of a source, compared with the files that were read: nothing that the source tells is believed."""

from __future__ import annotations

from dataclasses import dataclass

from loader.errors import SourceCorrupt
from loader.packing.source_images import SourceFile, SourceImage, missing
from loader.packing.spooled import SpooledFile, SpooledSource


@dataclass(frozen=True)
class SoundImage:
    """An image whose configuration and layers, in their order, are the files that its source announced."""

    platform: str
    created: str
    config: SpooledFile
    layers: tuple[SpooledFile, ...]


def require_sound(name: str, image: SourceImage, source: SpooledSource) -> SoundImage:
    """Return the image with its files. Raises SourceCorrupt."""
    _require_platform(name, image)
    config = _file(image.config, source)
    layers = tuple(_file(layer, source) for layer in image.layers)
    if config.raw != config.content:
        raise SourceCorrupt(f"The configuration of {name} is compressed.")
    diff_ids = image.settings.diff_ids
    if len(layers) != len(diff_ids):
        raise SourceCorrupt(f"The image {name} has {len(layers)} layers, but its configuration names {len(diff_ids)}.")
    for layer, file, diff_id in zip(layers, image.layers, diff_ids, strict=True):
        if layer.digest != diff_id:
            raise SourceCorrupt(f"{file.name!r} of the source is not the layer {diff_id} of {name}.")
    return SoundImage(image.settings.platform, image.settings.created, config, layers)


def _require_platform(name: str, image: SourceImage) -> None:
    told, built = image.platform.split("/")[:2], image.settings.platform.split("/")[:2]
    if told != built:
        raise SourceCorrupt(
            f"The source says that {name} is for {image.platform!r}, but it is for {'/'.join(built)!r}."
        )


def _file(told: SourceFile, source: SpooledSource) -> SpooledFile:
    """Return a file of the source, once its bytes are what the source tells about them."""
    file = source.find(told.name)
    if file is None:
        raise missing(told.name)
    if told.digest not in (None, f"sha256:{file.raw.sha256}") or told.size not in (None, file.raw.size):
        raise SourceCorrupt(f"{told.name!r} of the source is not what its name or its descriptor says.")
    return file
