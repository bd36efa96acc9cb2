"""Which images of a source go into the archive, under which names, and whether they are what the source says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loader.errors import ImageNotFound, SourceCorrupt, ValidationFailed
from loader.packing.docker_archive import MANIFEST, docker_images
from loader.packing.oci_layout import INDEX, oci_images
from loader.packing.release import require_count, require_layers
from loader.packing.source_images import Read, SourceFile, SourceImage, missing, names_of
from loader.packing.spooled import SpooledFile, SpooledSource

# Full references and the image that each names, in their order.
Chosen = dict[str, SourceImage]


@dataclass(frozen=True)
class SoundImage:
    """An image whose configuration and layers, in their order, are the files that its source announced."""

    platform: str
    created: str
    config: SpooledFile
    layers: tuple[SpooledFile, ...]


def images_in(read: Read) -> list[SourceImage]:
    """Return what a source says about its images: as an OCI layout or, if it is none, as a docker-archive.

    Raises SourceCorrupt, also if it is both and they disagree.
    """
    index, manifest = read(INDEX), read(MANIFEST)
    if index is None and manifest is None:
        raise SourceCorrupt(f"The source has neither {MANIFEST} nor {INDEX}: it holds no images, or is cut short.")
    archived = [] if manifest is None else docker_images(manifest, read)
    if index is None:
        return archived
    images = oci_images(index, read)
    told = {(id_, name) for image in images for id_ in image.ids for name in (None, *image.names)}
    for image in archived:
        for name in image.names or [None]:
            if not told.issuperset((id_, name) for id_ in image.ids):
                raise SourceCorrupt(f"{MANIFEST} and {INDEX} of the source disagree about {name or 'an image'}.")
    return images


def choose_by_name(images: Sequence[SourceImage], wanted: Sequence[str], platform: str | None) -> Chosen:
    """Return the images under the full references `wanted`; all of them if none is wanted.

    If one name is wanted and one image has none, the image gets that name. Raises ImageNotFound, SourceCorrupt, and
    ValidationFailed.
    """
    if not images:
        raise SourceCorrupt("The source holds no image.")
    names = dict.fromkeys(names_of(images))
    unnamed = [image for image in images if not image.names]
    if unnamed and not wanted:
        raise ValidationFailed("The source holds an image without a full name; say its name as IMAGE.")
    if len(wanted) == 1 and wanted[0] not in names and unnamed:
        return {wanted[0]: _one(wanted[0], unnamed, platform)}
    if absent := [name for name in wanted if name not in names]:
        held = ", ".join(names) or "no image with a name"
        raise ImageNotFound(f"The source has no image {', '.join(absent)}; it has {held}.")
    require_count(len(wanted or names))
    return {name: _one(name, [image for image in images if name in image.names], platform) for name in wanted or names}


def choose_by_id(images: Sequence[SourceImage], ids: Mapping[str, str], platform: str | None) -> Chosen:
    """Return, for each reference of `ids`, the image that an engine knows under this ID. Raises SourceCorrupt.

    The engine told the IDs before it saved the images.
    """
    chosen = {}
    for reference, id_ in ids.items():
        found = [image for image in images if id_ in image.ids]
        if not found:
            raise SourceCorrupt(
                f"The engine did not save the image {id_} that {reference} named: the tag moved meanwhile, "
                "or the engine saved something else."
            )
        chosen[reference] = _one(reference, found, platform)
    return chosen


def matches(image: SourceImage, platform: str) -> bool:
    """Return whether an image is for `os/architecture`, or `os/architecture/variant`."""
    return f"{image.platform}/".startswith(f"{platform}/") or f"{image.settings.platform}/".startswith(f"{platform}/")


def _one(name: str, images: Iterable[SourceImage], platform: str | None) -> SourceImage:
    """Return the one image among those under one name that is for this platform."""
    distinct = list({image.files: image for image in images}.values())
    fitting = [image for image in distinct if platform is None or matches(image, platform)]
    if fault := next((image.settings.fault for image in fitting or distinct if image.settings.fault), None):
        raise SourceCorrupt(f"The image {name} cannot be packed. {fault}")
    if len(fitting) == 1:
        require_layers(name, len(fitting[0].layers))
        return fitting[0]
    platforms = ", ".join(sorted({repr(image.platform)[1:-1] for image in distinct}))
    if not fitting:
        raise ImageNotFound(f"The source has no image {name} for {platform}; it has {platforms}.")
    if len({image.platform for image in fitting}) == 1:
        raise SourceCorrupt(f"The source has several images {name} for {platforms}.")
    raise ValidationFailed(f"The source has {name} for several platforms, {platforms}: choose with --platform.")


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
