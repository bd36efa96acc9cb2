"""One loader works in a directory at a time: a second one would remove the first one's files, and take its socket."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from loader.files import make_private_directory
from loader.settings import Settings


class DirectoryInUse(Exception):
    """Another loader works in a directory. The text is one line for the operator."""


# The descriptors of the locked directories, by device and inode. The kernel unlocks them when this process and its
# children have ended, however they end.
_locked: dict[tuple[int, int], int] = {}


def claim_directories(settings: Settings) -> None:
    """Lock the directory of the cache, which is created if it is missing, and the one of the archive.

    A directory that this process has locked before, or the process that it was forked from, is fine. What cannot be
    opened or locked for other reasons is left: the loader reports it when it needs it. Raises DirectoryInUse.
    """
    with suppress(OSError):
        make_private_directory(settings.model_cache_dir)
    for path in (settings.model_cache_dir, settings.images_path.parent):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        if key in _locked:
            os.close(descriptor)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DirectoryInUse(f"azaion-loader: another loader works in {path}; stop it first") from None
        except OSError:
            os.close(descriptor)
            continue
        _locked[key] = descriptor
