"""Tars that no engine writes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

JUNK_SIZE = 1 << 20


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
