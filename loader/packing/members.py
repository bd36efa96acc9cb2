"""The files of a source, which come one after the other from a tar or a directory: their names, links and limits."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loader.crypto.archive_head import DESCRIPTION_MAX_SIZE
from loader.errors import SourceCorrupt

# 4,096 blobs and as many links and small files for each make some 10,000.
MAX_MEMBERS = 65_536
# `docker save` of version 20.10 and skopeo write links to files, never to links.
MAX_LINKS = 4


@dataclass(frozen=True)
class Member:
    """One file: `size` bytes in `pieces`, to be read before the next member is asked for; or a link to `target`.

    `name` and `target` are relative to the source, without `.` and `..`.
    """

    name: str
    size: int
    pieces: Iterator[bytes | memoryview]
    target: str | None = None


def member_name(told: str) -> str:
    """Return the name of a member in its one form, empty for the source itself. Raises SourceCorrupt."""
    parts = [part for part in told.split("/") if part not in ("", ".")]
    if told.startswith("/") or ".." in parts or "\0" in told:
        raise SourceCorrupt(f"The source has a file with the unsafe name {told!r}.")
    return "/".join(parts)


def link_target(name: str, told: str, *, hard: bool) -> str:
    """Return the name to which the link `name` leads. A hard link tells it from the root. Raises SourceCorrupt."""
    target = posixpath.normpath(posixpath.join("" if hard else posixpath.dirname(name), told))
    if target.startswith(("/", "../")) or target in (".", "..") or "\0" in told:
        raise SourceCorrupt(f"The link {name!r} of the source leads out of it, to {told!r}.")
    return target


def follow(name: str, links: Mapping[str, str]) -> str:
    """Return the name of the file that `name` stands for. Raises SourceCorrupt for a chain of many links, or a loop."""
    for _ in range(MAX_LINKS + 1):
        if name not in links:
            return name
        name = links[name]
    raise SourceCorrupt(f"A link of the source leads over more than {MAX_LINKS} others to {name!r}.")


def require_small(name: str, size: int) -> None:
    """Raise SourceCorrupt if a file is too large for a description of images, which is held in memory."""
    if size > DESCRIPTION_MAX_SIZE:
        raise SourceCorrupt(
            f"{name!r} of the source has {size} bytes; a description has at most {DESCRIPTION_MAX_SIZE}."
        )
