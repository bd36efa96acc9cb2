"""One loader works in a directory at a time: a second one would remove the first one's files, and take its socket."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

from loader.files import make_private_directory
from loader.settings import Settings

log = logging.getLogger(__name__)


class DirectoryInUse(Exception):
    """Another loader works in a directory. The text is one line for the operator."""


# The descriptors of the locked directories, by device and inode. The kernel unlocks them when this process and its
# children have ended, however they end.
_locked: dict[tuple[int, int], int] = {}


def claim_directories(settings: Settings, *, create: bool) -> None:
    """Lock the directory of the cache, which `create` makes if it is missing, and the one of the archive.

    A directory that this process has locked before, or the process that it was forked from, is fine. One that cannot be
    opened or locked for another reason is a warning in the log. Raises DirectoryInUse.
    """
    if create:
        with suppress(OSError):
            make_private_directory(settings.model_cache_dir)
    for path in (settings.model_cache_dir, settings.images_path.parent):
        try:
            _claim(path)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            raise DirectoryInUse(f"azaion-loader: another loader works in {path}; stop it first") from None
        except OSError as exc:
            log.warning("%s cannot be locked, so a second loader would not be noticed: %s", path, exc.strerror)


def _claim(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        if key not in _locked:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _locked[key] = descriptor
            return
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
