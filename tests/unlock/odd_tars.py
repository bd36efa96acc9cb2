"""Tars that no engine writes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

JUNK_SIZE = 1 << 20


def member(name: str, size: int) -> Iterator[bytes]:
    """Yield the head of a tar member. `size` bytes, a multiple of 512, must follow."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    yield entry.tobuf(tarfile.GNU_FORMAT)


def junk(size: int) -> Iterator[bytes]:
    """Yield `size` bytes that are not a tar."""
    for _ in range(size // JUNK_SIZE):
        yield b"\xa5" * JUNK_SIZE
    yield b"\xa5" * (size % JUNK_SIZE)


def empty_tar() -> bytes:
    """Return a tar without members."""
    target = io.BytesIO()
    tarfile.open(fileobj=target, mode="w").close()
    return target.getvalue()
