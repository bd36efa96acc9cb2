"""A process that ends unlocks; each is killed one step later than the one before, while it writes what it remembers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from loader.crypto.archive_head import Release, StoredHead
from loader.unlock.release_mark import KnownRelease, ReleaseMark, note_ready, remove_unfinished_mark
from loader.unlock.remembered import NOTHING, Remembered, remember, remove_unfinished_memory
from tests.unlock.images.controlled_engine import HEAD

STEPS = ("open", "fsync", "replace", "close")
OLD, NEW = (StoredHead.of(replace(HEAD, release=Release("1.4", serial, "2026-01-02T03:04:05Z"))) for serial in (1, 2))


def main(directory: Path) -> None:
    """Print as JSON what each kill left, as `mark remembered`; the last unlock was not killed."""
    states: list[str] = []
    killed = True
    while killed:
        place = directory / str(len(states))
        end_unlock(place, OLD)
        child = os.fork()
        if not child:
            die_at(len(states))
            end_unlock(place, NEW)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        states.append(left_in(place))
    print(json.dumps(states))


def end_unlock(directory: Path, head: StoredHead) -> None:
    """Do what an unlock does between the last proof and the state `ready`."""
    mark = ReleaseMark.read(directory, Remembered.read(directory))
    remember(directory, head)
    note_ready(directory, mark, KnownRelease.of(head), proven=True)


def die_at(step: int) -> None:
    """Let this process be killed before its call of this number to one of STEPS."""
    left = [step]
    for name in STEPS:
        setattr(os, name, counted(getattr(os, name), left))


def counted(call: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """Return `call`, which kills the process once no step is left."""

    def stepped(*arguments: Any, **options: Any) -> Any:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*arguments, **options)

    return stepped


def left_in(directory: Path) -> str:
    """Return what the next process finds there after its start, which leaves nothing unfinished."""
    remove_unfinished_mark(directory)
    remove_unfinished_memory(directory)
    assert len(list(directory.iterdir())) == 2
    mark, remembered = ReleaseMark.read(directory, NOTHING), Remembered.read(directory)
    assert mark.is_stored
    assert mark.newest is not None
    left = [mark.newest.head, head_of(remembered)]
    both = ReleaseMark.read(directory, remembered)
    # The new release counts as soon as one of the two files has it.
    assert (both.newer_than(KnownRelease.of(OLD)) is not None) is (NEW.digest in left)
    assert both.newer_than(KnownRelease.of(NEW)) is None
    return " ".join("new" if head == NEW.digest else "old" for head in left)


def head_of(remembered: Remembered) -> str:
    """Return the digest of the remembered head."""
    return next(head.digest for head in (OLD, NEW) if remembered.is_head(head))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
