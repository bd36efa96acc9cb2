"""Where images come from: an engine, a tar in a file or on standard input, or a directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from loader.crypto.pieces import PIECE_SIZE
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import CorruptCiphertext, ImageNotFound, SourceCorrupt
from loader.files import storage
from loader.packing.choice import Chosen, choose_by_id, choose_by_name, images_in
from loader.packing.compression import inflated, is_gzip
from loader.packing.members import Directory, Member, require_small
from loader.packing.source_images import SourceImage
from loader.packing.tar_stream import tar_members
from loader.references import DEFAULT_TAG, split_tag

STANDARD_INPUT = Path("-")

T = TypeVar("T", bound=bytes | memoryview)

OnRead = Callable[[int], None]


class Source(Protocol):
    """Images to pack. `size` is about how many bytes will be read, 0 if nobody knows."""

    size: int

    def members(self, on_read: OnRead) -> Iterator[Member]:
        """Yield all files that the images may consist of, once. `on_read` gets the bytes that were read."""

    def choose(self, images: Sequence[SourceImage]) -> Chosen:
        """Return those of the images in the source that are wanted, under their full references."""


def find_images(engine: DockerEngine, names: Mapping[str, str]) -> dict[str, tuple[str, EngineImage]]:
    """Return, by the full references of `names`, the name that the engine knows and its image. Raises ImageNotFound.

    The engine is asked for what the caller wrote, because podman puts names without a registry below `localhost`.
    """
    found = {}
    for reference, written in names.items():
        name = written if split_tag(written)[1] is not None else f"{written}:{DEFAULT_TAG}"
        image = engine.find(name)
        if image is None:
            raise ImageNotFound(f"The Docker engine has no image {name}.")
        found[reference] = (name, image)
    return found


class EngineSource:
    """Images of an engine, which saves them with what they share only once."""

    def __init__(
        self, engine: DockerEngine, images: Mapping[str, tuple[str, EngineImage]], platform: str | None
    ) -> None:
        """`images` are, by full references, the names that the engine knows and the images that it found."""
        self._engine = engine
        self._ids = {reference: image.id for reference, (_, image) in images.items()}
        # One name an image is enough, because the images are found in the tar by their IDs.
        self._names = list({image.id: name for name, image in images.values()}.values())
        self._platform = platform
        self.size = sum(image.size for image in {image.id: image for _, image in images.values()}.values())

    def members(self, on_read: OnRead) -> Iterator[Member]:
        return tar_members(_counted(self._engine.save(self._names, self._platform), on_read))

    def choose(self, images: Sequence[SourceImage]) -> Chosen:
        return choose_by_id(images, self._ids, self._platform)


class TarSource:
    """A tar, which may be compressed with gzip, in a file or on standard input."""

    def __init__(self, path: Path, references: Sequence[str], platform: str | None) -> None:
        self._path = path
        self._references = references
        self._platform = platform
        with storage(path, 0):
            self.size = 0 if path == STANDARD_INPUT else path.stat().st_size

    def members(self, on_read: OnRead) -> Iterator[Member]:
        return tar_members(_without_gzip(_counted(_read(self._path), on_read)))

    def choose(self, images: Sequence[SourceImage]) -> Chosen:
        return choose_by_name(images, self._references, self._platform)


class DirectorySource:
    """A directory, of which only the files that the wanted images need are read."""

    size = 0

    def __init__(self, path: Path, references: Sequence[str], platform: str | None) -> None:
        self._directory = Directory(path)
        self._references = references
        self._platform = platform

    def members(self, on_read: OnRead) -> Iterator[Member]:
        documents: dict[str, None] = {}

        def read(name: str) -> bytes | None:
            data = self._document(name)
            documents[name] = None
            return data

        chosen = self.choose(images_in(read))
        layers = (layer.name for image in chosen.values() for layer in image.layers)
        for member in self._directory.members(chain(documents, layers)):
            yield Member(member.name, member.size, _counted(member.pieces, on_read), member.target)

    def choose(self, images: Sequence[SourceImage]) -> Chosen:
        return choose_by_name(images, self._references, self._platform)

    def _document(self, name: str) -> bytes | None:
        for member in self._directory.members([name]):
            if member.target is None:
                require_small(member.name, member.size)
                return b"".join(member.pieces)
        return None


def _read(path: Path) -> Iterator[bytes]:
    with storage(path, 0), _opened(path) as file:
        while piece := file.read(PIECE_SIZE):
            yield piece


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else path.open("rb", buffering=0)


def _without_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = next(pieces, b"")
    rest = chain([first], pieces)
    try:
        yield from inflated(rest, sys.maxsize) if is_gzip(first) else rest
    except CorruptCiphertext as exc:
        raise SourceCorrupt(f"The source cannot be read: {exc}.") from exc


def _counted(pieces: Iterable[T], on_read: OnRead) -> Iterator[T]:
    for piece in pieces:
        on_read(len(piece))
        yield piece


def ambiguities(engine: DockerEngine, found: Mapping[str, tuple[str, EngineImage]]) -> Iterator[str]:
    """Yield a warning for each image of `find_images` whose full name stands for another image of the engine.

    podman keeps `localhost/app:1` beside `docker.io/library/app:1`, and takes `app:1` for the first.
    """
    for reference, (name, image) in found.items():
        other = engine.find(reference)
        if other is not None and other.id != image.id:
            yield f"{name} is packed as {reference}, but the engine has another image under that full name"
