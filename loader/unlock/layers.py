"""Which layers the engine surely has, so that they are not sent once more.

An engine knows a layer only on top of the same layers below it. So it is always a prefix of an image's chain that is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from loader.crypto.archive_head import Head, Image
from loader.docker_engine import DockerEngine, EngineImage, Store
from loader.oci import Layout

Chain = tuple[str, ...]


@dataclass(frozen=True)
class Base:
    """An image in the engine whose layers need not be sent, as long as `reference` names it."""

    reference: str
    image: EngineImage

    def is_there(self, engine: DockerEngine) -> bool:
        """Return whether the name still stands for the image. Raises the errors of the engine."""
        found = engine.find(self.reference)
        return found is not None and found.id == self.image.id


def find_bases(store: Store, found: Mapping[str, EngineImage | None], proven: Iterable[Image]) -> Iterator[Base]:
    """Yield the images among `found`, by their references, that an engine with this `store` surely has whole.

    `proven` are the images of the last unlock that was proven on this device. The containerd store may have an image
    without some of its layers, or with other blobs than those of the archive, unless it was proven with its manifest.
    """
    # A store that names an image by its configuration keeps it whole.
    known = {digest for image in proven for digest in (image.ids if store is Store.UNKNOWN else {image.manifest})}
    for reference, image in found.items():
        if image is None or image.unpacked is False or not image.available:
            continue
        if not store.may_be_containerd or image.id in known:
            yield Base(reference, image)


def layouts_of(head: Head, present: set[str], bases: Iterable[Base] = ()) -> Iterator[Layout]:
    """Yield a layout for each image that the engine lacks under all of its names.

    Layers that `bases` have, or that an earlier layout brings, are left out.
    """
    brought = _chains(base.image.layers for base in bases)
    for names in head.distinct_images:
        if not any(image.reference in present for image in names):
            image = names[0]
            yield Layout(head, image, image.layers[_known(image.layers, brought) :])
            brought |= _chains([image.layers])


def whole(layout: Layout) -> Layout:
    """Return the layout with all layers of its image."""
    return Layout(layout.head, layout.image, layout.image.layers)


def to_unpack(layouts: Iterable[Layout], there: Iterable[Chain]) -> Iterator[str]:
    """Yield each layer that an engine will unpack if it has unpacked the chains `there` before."""
    known = _chains(there)
    for layout in layouts:
        layers = layout.image.layers
        yield from layers[_known(layers, known) :]
        known |= _chains([layers])


def _chains(chains: Iterable[Chain]) -> set[Chain]:
    return {chain[:length] for chain in chains for length in range(1, len(chain) + 1)}


def _known(layers: Chain, chains: set[Chain]) -> int:
    """Return how many layers at the bottom of `layers` are one of `chains`."""
    return max((length for length in range(len(layers) + 1) if layers[:length] in chains), default=0)
