"""Releases of one root, thin archives of them, and archives that nobody may take for either."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive import ArchiveIndex, archive_start
from tests.support.archive_parts import Parts
from tests.support.flips import flipped
from tests.support.handmade_image import ROOT, HandmadeImage, HandmadeLayer, seal

MIB = 1 << 20
_NOISE = random.Random(17).randbytes(MIB)  # noqa: S311  every run needs the same bytes
BOTTOM = HandmadeLayer(_NOISE, 2, "bottom")
MIDDLE = HandmadeLayer(b"middle" * 100, 40, "middle")
DATABASE = HandmadeImage("registry.local:5000/database:9", (BOTTOM,))
OTHER_ROOT = bytes(range(1, 33))


def top(number: int) -> HandmadeLayer:
    """Return the top layer of release `number`."""
    return HandmadeLayer(f"release {number}".encode() * 1000, 3, "top")


def release(path: Path, number: int, *, root: bytes = ROOT) -> Path:
    """Seal release `number`: two images, of which only the top layer of the first is another one in each release."""
    app = HandmadeImage(f"registry.local:5000/app:{number}", (BOTTOM, MIDDLE, top(number)))
    return seal(path, [app, DATABASE], serial=number, root=root)


def thin_of(path: Path, base: Path) -> bytes:
    """Return the thin archive of `path` without the blobs of `base`, made by the description of the format alone."""
    with open_archive(path) as new, open_archive(base) as old:
        there = {blob.stored for blob in old.head.blobs}
        left = [blob for blob in new.head.blobs if blob.stored not in there]
        data = path.read_bytes()
        begins = [new.index.offsets[blob.digest] for blob in left]
        blobs = [data[begin : begin + blob.stored_size] for begin, blob in zip(begins, left, strict=True)]
        return archive_start(new.index.stored, new.index.seals, left) + b"".join(blobs)


def holding(path: Path, new: Path, old: Path) -> Path:
    """Write the thin archive of `new` without the blobs of `old` to `path`, and those blobs into its directory."""
    path.write_bytes(thin_of(new, old))
    directory = path.with_suffix(".blobs")
    directory.mkdir(exist_ok=True)
    absent = {blob.stored for blob in index_of(path).absent}
    with open_archive(old) as archive:
        data = old.read_bytes()
        for blob in archive.head.blobs:
            if blob.stored in absent:
                begin = archive.index.offsets[blob.digest]
                (directory / blob.stored).write_bytes(data[begin : begin + blob.stored_size])
    return path


def index_of(path: Path) -> ArchiveIndex:
    """Return the index of an archive."""
    with open_archive(path) as archive:
        return archive.index


def damaged(data: bytes) -> dict[str, bytes]:
    """Return what may become of the thin archive `data`, by what happened; each of them is ARCHIVE_CORRUPT."""
    found = {"nothing": b"", "another byte": data + b"x", "one byte less": data[:-1], "half": data[: len(data) // 2]}
    parts = Parts.of(data)
    position = 0
    for name, piece in parts.pieces():
        if piece:
            found[f"cut at {name}"] = data[:position]
            found[f"cut in {name}"] = data[: position + len(piece) // 2 + 1] if len(piece) > 1 else b""
            for place in (0, len(piece) - 1) if name not in ("head", "seals") else ():
                found[f"a flip in {name}, {place}"] = flipped(data, position + place)
        position += len(piece)
    return found | _lying(data)


def _lying(data: bytes) -> dict[str, bytes]:
    """Return archives whose list of present blobs is not that of the blobs that follow."""
    names, blobs = Parts.of(data).present, Parts.of(data).blobs
    lies = {
        "a blob named twice": ([*names, names[-1]], blobs),
        "a blob twice": ([*names, names[-1]], [*blobs, blobs[-1]]),
        "two names exchanged": (names[::-1], blobs),
        "two blobs exchanged": (names, blobs[::-1]),
        "names and blobs in another order": (names[::-1], blobs[::-1]),
        "a name of no blob": ([bytes(32), *names[1:]], blobs),
        "a name without its blob": (names, blobs[:-1]),
        "a blob without its name": (names[:-1], blobs),
        "no name at all": ([], blobs),
    }
    return {what: replace(Parts.of(data), present=listed, blobs=held).joined() for what, (listed, held) in lies.items()}
