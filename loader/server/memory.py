"""The settings of the C library's memory allocator that suit transfers, and the size of the stacks of threads."""

from __future__ import annotations

import ctypes
import sys
import threading

# From <malloc.h> of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

KEPT_SIZE = 8 << 20
LARGE_SIZE = 4 << 20
STACK_SIZE = 1 << 20


def keep_freed_memory() -> None:
    """Keep up to 8 MiB of freed memory in this process and serve blocks below 4 MiB from it.

    By default glibc returns each freed megabyte of a transfer to the kernel, and the kernel then faults the next one in
    page by page, which takes longer than encrypting it. All threads share one arena, so that the memory is kept only
    once; the GIL lets only one thread allocate at a time anyway. Call this before any thread starts. The parameters are
    those of mallopt(3) in glibc. Other C libraries have no mallopt, and then this function does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, KEPT_SIZE), (M_MMAP_THRESHOLD, LARGE_SIZE)):
            mallopt(parameter, value)


def limit_stacks() -> None:
    """Give each thread that starts from now on a stack of 1 MiB instead of the usual 8 MiB, from Python 3.14 on.

    A thread keeps the pages of its stack that it has used once. The JSON parser of Python 3.14 follows nested brackets
    until the stack is full, so that one request with 60,000 of them would cost 8 MiB for as long as the thread lives.
    Older versions count the brackets, and 3.12 and 3.13 allow so many that a stack of 1 MiB would overflow.
    """
    if sys.version_info >= (3, 14):
        threading.stack_size(STACK_SIZE)
