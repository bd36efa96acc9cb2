"""The way of the images from the archive to the engine: through a file (mode `tar`) or directly (mode `stream`).

Both ways authenticate everything that will be sent before the engine gets a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from loader.binary_split import Archive, Contents, archive_faults
from loader.errors import Checkpoint
from loader.files import SEND_SIZE, require_room
from loader.oci import Layout, digest_of
from loader.settings import Settings
from loader.unlock.tar_file import TarFile, remove_tar


def tar_path(settings: Settings) -> Path:
    """Return where mode `tar` decrypts the images to: IMAGES_PATH without `.enc`, with `.tar`."""
    return settings.images_path.with_name(settings.images_path.name.removesuffix(".enc") + ".tar")


class Delivery(Protocol):
    """Authenticates what will be sent, then delivers it: one layout an image.

    Call `prepare`, then take all `pieces` of each layout, then `close`, which leaves no plaintext behind. A layout that
    was not planned needs `authenticate` first. `preparation` is how many bytes `prepare` counts.
    """

    preparation: int

    def prepare(self, fragment: bytes, on_prepared: Callable[[int], None]) -> None:
        """Authenticate everything. `on_prepared` gets the bytes done so far.

        Raises ArchiveCorrupt, DiskSpace, StorageError, and what the checkpoint raises.
        """

    def authenticate(self, layouts: Iterable[Layout]) -> None:
        """Authenticate those blobs of `layouts` that are not authentic yet. Call this after `prepare`.

        Raises ArchiveCorrupt, StorageError, and what the checkpoint raises.
        """

    def pieces(self, layout: Layout) -> Iterator[bytes | memoryview]:
        """Yield the tar of a layout; each piece is valid until the next is taken.

        Raises RuntimeError before `prepare`, KeyError if the layout holds what was not authenticated, and DiskSpace.
        """

    def close(self) -> None: ...


class StreamDelivery:
    """Mode `stream`: authenticates the archive in a first pass, and decrypts it to the engine in a second one.

    The first pass begins at once, because it needs the key only at its end.
    """

    def __init__(self, archive: Archive, layouts: Sequence[Layout], checkpoint: Checkpoint) -> None:
        self._archive = archive
        self._checkpoint = checkpoint
        blobs = dict.fromkeys(digest for layout in layouts for digest in layout.blobs)
        self._digests = archive.digests_ahead(blobs, checkpoint)
        self._contents: Contents | None = None
        self.preparation = sum(archive.head.blob[digest].stored_size for digest in blobs)

    def prepare(self, fragment: bytes, on_prepared: Callable[[int], None]) -> None:
        contents = self._archive.unseal(fragment, self._checkpoint)
        with archive_faults(self._archive.path):
            for digest, digests in self._digests.results(on_prepared):
                contents.require_stored(digest, digests)
        self._contents = contents

    def authenticate(self, layouts: Iterable[Layout]) -> None:
        _authenticate(_prepared(self._contents), layouts)

    def pieces(self, layout: Layout) -> Iterator[bytes | memoryview]:
        contents = _prepared(self._contents)
        # The file may have changed after the first pass: then a piece differs, and the engine gets an incomplete body
        # and keeps nothing.
        yield from contents.layout(layout, contents.content)

    def close(self) -> None:
        self._contents = None
        self._digests.close()


class TarDelivery:
    """Mode `tar`: decrypts the layouts into one file (0600), one after another, and delivers them from that file.

    Only the content of layers is delivered as the file has it, and every engine compares it with the digests of the
    manifest. All else is made once more from the head or compared with it, because another process with the rights of
    this one could write a name for any image into the file.
    """

    def __init__(self, archive: Archive, layouts: Sequence[Layout], path: Path, checkpoint: Checkpoint) -> None:
        self._archive = archive
        self._layouts = layouts
        self._checkpoint = checkpoint
        self._contents: Contents | None = None
        self._tar = TarFile(path)
        self._path = path
        self._offsets: dict[Layout, int] = {}
        self._untaken = (0, 0)
        self.preparation = sum(layout.size for layout in layouts)
        remove_tar(path)

    def prepare(self, fragment: bytes, on_prepared: Callable[[int], None]) -> None:
        contents = self._archive.unseal(fragment, self._checkpoint)
        for layout in self._layouts:
            # One pass does both, because the engine gets nothing of the file before all of it was written.
            for _ in self._write(layout, contents.layout(layout, contents.content_to_prove)):
                on_prepared(self._tar.end)
        self._contents = contents

    def authenticate(self, layouts: Iterable[Layout]) -> None:
        _authenticate(_prepared(self._contents), layouts)

    def pieces(self, layout: Layout) -> Iterator[bytes | memoryview]:
        contents = _prepared(self._contents)
        if layout not in self._offsets:
            self._make_room(layout)
            for _ in self._write(layout, contents.layout(layout, contents.content)):
                pass
        position = self._offsets.pop(layout)
        self._untaken = (position, position + layout.size)

        def content(digest: str) -> Iterator[bytes | memoryview]:
            return self._content(layout, digest, position)

        for piece in contents.layout(layout, content):
            self._checkpoint()
            yield piece
            position += len(piece)
            if position - self._untaken[0] >= SEND_SIZE:
                # Free what was sent, because the engine needs the room on the disk and in the page cache.
                self._free(position)
        self._free(position)

    def close(self) -> None:
        self._contents = None
        self._tar.close()

    def _free(self, position: int) -> None:
        """Free what was taken of the current layout, which is all before `position` of the tar."""
        begin, end = self._untaken
        self._tar.free(begin, position)
        self._untaken = (position, end)

    def _make_room(self, layout: Layout) -> None:
        """Free what `layout` replaces: the planned layout of its image, or the rest of it if it was refused.

        Raises DiskSpace if there is too little room for `layout` even then, before the disk is full.
        """
        self._tar.free(*self._untaken)
        for planned in [planned for planned in self._offsets if planned.image == layout.image]:
            begin = self._offsets.pop(planned)
            self._tar.free(begin, begin + planned.size)
        require_room(self._path, layout.size)

    def _content(self, layout: Layout, digest: str, position: int) -> Iterator[bytes | memoryview]:
        """Yield the content of a blob, which lies at `position` of the tar."""
        pieces = self._tar.read(position, layout.head.blob[digest].size)
        if digest in layout.layers:
            yield from pieces
            return
        description = b"".join(pieces)
        if digest_of(description) != digest:
            raise self._tar.changed()
        yield description

    def _write(self, layout: Layout, pieces: Iterator[bytes | memoryview]) -> Iterator[None]:
        """Append the pieces of a layout to the tar, and yield after each of them."""
        begin = self._tar.end
        for piece in pieces:
            self._tar.write(piece, layout.size)
            yield
        self._tar.flush(layout.size)
        self._offsets[layout] = begin


def _prepared(contents: Contents | None) -> Contents:
    if contents is None:
        raise RuntimeError("an archive must be authenticated before its delivery")
    return contents


def _authenticate(contents: Contents, layouts: Iterable[Layout]) -> None:
    for layout in layouts:
        for digest in layout.blobs:
            for _ in contents.authenticate(digest):
                pass


@contextmanager
def image_delivery(
    settings: Settings, archive: Archive, layouts: Sequence[Layout], checkpoint: Checkpoint
) -> Iterator[Delivery]:
    """Yield the delivery of the mode in UNLOCK_MODE, and close it after a success and after any error."""
    delivery: Delivery
    if settings.unlock_mode == "stream":
        delivery = StreamDelivery(archive, layouts, checkpoint)
    else:
        delivery = TarDelivery(archive, layouts, tar_path(settings), checkpoint)
    try:
        yield delivery
    finally:
        delivery.close()
