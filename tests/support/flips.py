"""Bytes of which one bit was changed, as a broken disk or an attacker would do it."""

from __future__ import annotations

from pathlib import Path


def flipped(data: bytes, position: int) -> bytes:
    """Return `data` with one bit of the byte at `position` changed."""
    changed = bytearray(data)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


def flip_in_file(path: Path, offset: int) -> None:
    """Change one bit of the byte at `offset` of a file, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(flipped(byte, 0))
