"""The files of a load: the model whole or not at all, and what a later load needs to know of it.

NAME                     the model
.NAME.etag               JSON: the ETag of the model, with size and modification time of NAME
.NAME.<digest>.partial   the start of an edition whose load was cut
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from loader.errors import StorageError
from loader.files import is_own_file, read_small, replacement, write_whole

_ETAG = re.compile(r'"(?P<digest>[0-9a-f]{64})"')
_DIGEST = "[0-9a-f]" * 64
_MAX_NOTE_SIZE = 4096
# With less than this the load starts again, because one byte comes twice.
MIN_SIZE = 2


@contextmanager
def loaded_file(target: Path, etag: str | None, begin: int) -> Iterator[BinaryIO]:
    """Yield a file that replaces `target` at the end of the block, at its offset `begin`.

    The bytes before are those that `begun` has told. If the block raises, what is here of an edition whose `etag` is
    that of a loader is kept for the next load. Raises OSError, and StorageError if another load has taken the bytes.
    """
    partial = _partial(target, etag) if etag is not None and _ETAG.fullmatch(etag) else None
    # What is here of other editions is useless from now on, and this one may need its room.
    _remove(path for path in _partials(target) if path != partial)
    with replacement(target, partial if begin else None, partial) as file:
        if file.seek(0, os.SEEK_END) < begin:
            raise StorageError(f"Another load continues {target} as well.")
        file.seek(begin)
        file.truncate()
        yield file
        file.flush()
        # Of this very file, because another load may replace it before the note is written.
        state = _state(os.fstat(file.fileno()))
    forget_begun(target)
    _note(target, etag, state)


def begun(target: Path) -> tuple[str, int] | None:
    """Return the ETag of the edition of which the last load was cut, and the offset at which to continue."""
    found = {path: status for path in _partials(target) if is_own_file(status := path.lstat())}
    newest = max(found, key=lambda path: found[path].st_mtime_ns, default=None)
    if newest is None or found[newest].st_size < MIN_SIZE:
        return None
    # The last byte comes once more, because no range begins behind the end of a model of which all is here.
    return f'"{newest.name.rsplit(".", 2)[1]}"', found[newest].st_size - 1


def forget_begun(target: Path) -> None:
    """Remove what is here of editions whose load was cut."""
    _remove(_partials(target))


def known_etag(target: Path) -> str | None:
    """Return the ETag of the edition that `target` is; None if nobody knows it, or the file has changed since."""
    path = _note_path(target)
    with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
        # In a directory that others may write to, a note of somebody else could call any file the model.
        note = json.loads(read_small(path, _MAX_NOTE_SIZE)) if is_own_file(path.lstat()) else {}
        if note["file"] == _state(target.stat()) and _ETAG.fullmatch(note["etag"]):
            return str(note["etag"])
    return None


def _note(target: Path, etag: str | None, state: list[int]) -> None:
    """Write down which edition the file is. A failure does not count, because the next load then loads it again."""
    with suppress(OSError):
        if etag is None:
            _note_path(target).unlink(missing_ok=True)
        else:
            write_whole(_note_path(target), json.dumps({"etag": etag, "file": state}).encode())


def _note_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.etag")


def _state(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _partial(target: Path, etag: str) -> Path:
    return target.with_name(f".{target.name}.{etag.strip(chr(34))}.partial")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _partials(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.{_DIGEST}.partial"))
