"""ETags that depend on the content alone, so that all replicas and all kinds of storage send the same one."""

import hashlib
import re
from typing import BinaryIO

# The id of a big object, which never changes and no other has, or the digest of the content.
_NAMED_CONTENT = re.compile(r"\.([0-9a-f]{32}|[0-9a-f]{64})\.big$|^images/([0-9a-f]{64})\.blob$")


def named_etag(name: str) -> str | None:
    """Return the strong ETag of an object whose name stands for its content; None for any other object."""
    named = _NAMED_CONTENT.search(name)
    return named and (named[1] or named[2])


def etag_of(name: str, file: BinaryIO) -> str:
    """Return a strong ETag of an object, which `file` reads from its beginning and is set back to.

    The name of a big part and of an image blob stands for its content, because a hash would have to read several GB.
    Every other object is small and is hashed.
    """
    named = named_etag(name)
    if named is not None:
        return named
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()
