"""Which images of a source go into the archive, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from loader.errors import ImageNotFound, SourceCorrupt, ValidationFailed
from loader.packing.docker_archive import MANIFEST, docker_images
from loader.packing.limits import require_count, require_layers
from loader.packing.oci_layout import INDEX, oci_images
from loader.packing.source_images import Read, SourceImage, names_of

# Full references and the image that each names, in their order.
Chosen = dict[str, SourceImage]


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
    names = names_of(images)
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
