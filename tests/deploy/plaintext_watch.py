"""A thread that looks again and again whether plaintext lies in a file, named or not, of a set of processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.disk_search import files_below, open_files

MARKER = b"planted plaintext through nginx " + bytes(range(200, 232))
# Plaintext that consists of nothing but MARKER shows in any window of it: no need to read files whole.
WINDOW = 1 << 16
WINDOWS_PER_FILE = 16
PAUSE_SECONDS = 0.02


class PlaintextWatch:
    """Watches the open files of `pids()` and what changes below `directories`, from the start to the end of the block.

    `found` names the files in which MARKER was seen; `samples` counts the looks.
    """

    def __init__(self, pids: Callable[[], Sequence[int]], directories: Sequence[Path]) -> None:
        self.found: set[str] = set()
        self.samples = 0
        self._pids = pids
        self._directories = directories
        self._since = time.time() - 2  # file systems round
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="plaintext-watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            self._look()

    def _look(self) -> None:
        for path in self._files():
            if _shows_marker(path):
                with suppress(OSError):
                    self.found.add(str(path.resolve(strict=False)))
        self.samples += 1

    def _files(self) -> Iterator[Path]:
        for pid in self._pids():
            with suppress(OSError):  # it has ended
                yield from open_files(pid)
        yield from files_below(self._directories, changed_since=self._since)


def _shows_marker(path: Path) -> bool:
    """Whether one of some windows, spread over the file, holds the marker; False for a file that has gone."""
    with suppress(OSError), path.open("rb") as file:
        size = path.stat().st_size
        for number in range(WINDOWS_PER_FILE):
            file.seek(number * max(0, size - WINDOW) // (WINDOWS_PER_FILE - 1))
            if MARKER in file.read(WINDOW):
                return True
            if size <= WINDOW:
                break
    return False
