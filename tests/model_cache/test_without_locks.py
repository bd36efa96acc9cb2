"""A cache on a file system without locks, such as NFS without its lock service."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from loader.model_cache.cache import ModelCache
from tests.model_cache.memory_upstream import CONTENT, MIB, MemoryPart, wait_until_idle


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_part_is_fetched_resumed_and_served(
    cache: ModelCache, part: MemoryPart, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A fake for such a file system: the kernel of a test machine locks on every disk that it has."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    part.cuts = [MIB]
    for _ in range(2):
        assert part.load(cache) == CONTENT
        wait_until_idle(cache)
    assert part.sent == part.big.size
    assert [path.suffix for path in cache._directory.path.iterdir()] == [".big"]
