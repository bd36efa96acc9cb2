"""Calls of the packer in the test process, and looks into what it has written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive_head import Head
from loader.errors import LoaderError
from loader.packing.base import open_base
from loader.packing.pack import Wishes, pack
from loader.packing.release import full_references
from loader.packing.sources import DirectorySource, TarSource
from loader.packing.verify import verify
from tests.support.handmade_image import FRAGMENT


@contextmanager
def unwatched(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
    """Ignore the progress of a stage."""
    yield lambda _: None


def pack_path(
    origin: Path,
    output: Path,
    references: Sequence[str] = (),
    *,
    platform: str | None = None,
    codec: str = "gzip",
    version: str | None = None,
    serial: int | None = None,
    base: Path | None = None,
) -> Head:
    """Pack images of a tar or a directory into `output` under `FRAGMENT`, verify the archive, and return its head."""
    kind = DirectorySource if origin.is_dir() else TarSource
    source = kind(origin, list(full_references(references)), platform)
    wishes = Wishes(version, serial, codec)
    with nullcontext() if base is None else open_base(base, FRAGMENT) as opened:
        head = pack(source, wishes, FRAGMENT, output, unwatched, opened)
    assert verify(output, FRAGMENT, unwatched).head == head
    return head


def refusal(origin: Path, output: Path, references: Sequence[str] = (), *, platform: str | None = None) -> str:
    """Return code and sentence of the error with which packing ends. Nothing of the output may exist afterwards."""
    before = os.listdir(output.parent)  # noqa: PTH208  # hidden files count
    try:
        pack_path(origin, output, references, platform=platform)
    except LoaderError as exc:
        assert os.listdir(output.parent) == before  # noqa: PTH208
        return f"{exc.code}: {exc}"
    raise AssertionError("it was packed")


def contents(path: Path) -> dict[str, bytes]:
    """Return the content of all blobs of an archive by their digests."""
    with open_archive(path) as archive:
        opened = archive.unseal(FRAGMENT, lambda: None)
        found = {}
        for blob in archive.head.blobs:
            for _ in opened.authenticate(blob.digest):
                pass
            found[blob.digest] = b"".join(map(bytes, opened.content(blob.digest)))
        return found
