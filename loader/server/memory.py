"""The C library's allocator, set for transfers."""

from __future__ import annotations

import ctypes

# <malloc.h> of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

KEPT_SIZE = 8 << 20
LARGE_SIZE = 4 << 20


def keep_freed_memory() -> None:
    """Let up to 8 MiB of freed memory stay with this process, and blocks below 4 MiB come out of it.

    Else each piece of a transfer, a megabyte long, is given back to the kernel when it is freed, and the next one is
    faulted in page by page, which takes longer than to encrypt it. One arena for all threads, so that what is kept is
    kept once; Python's own lock lets them in one by one anyway. To be called before they start. For mallopt(3) see the
    manual of glibc; other C libraries have no such thing, and nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, KEPT_SIZE), (M_MMAP_THRESHOLD, LARGE_SIZE)):
            mallopt(parameter, value)
