"""A process that fetches once, and keeps what a power cut before each step would have left on the disk.

The disk is kept twice at each step: with all that was written, and with half of each file that no `fsync` has reached.
Both can be what a device finds when the power is back.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from loader import api_client
from tests.fetch.killed import CALLS, fetch, finish, look, settings_of
from tests.install.killed import NEW, OLD, forked
from tests.support.thin_archives import MIB


class Disk:
    """The directory `device`, copied to `copies` before each call of `os` that changes it."""

    def __init__(self, device: Path, copies: Path) -> None:
        self.device = device
        self.copies = copies
        self.steps: list[str] = []
        # Steps of several threads come one after the other, so that nothing changes during a copy.
        self._lock = threading.RLock()
        self._synced = {self._state(path) for path in device.rglob("*") if path.is_file()}

    def watch(self) -> None:
        """Take the place of the calls."""
        for name in CALLS:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def copy(self, step: str) -> None:
        """Keep the disk as it is."""
        names = [f"{len(self.steps)}-whole", f"{len(self.steps)}-unsynced"]
        self.steps.append(step)
        for name in names:
            shutil.copytree(self.device, self.copies / name, symlinks=True)
        for path in self.device.rglob("*"):
            if path.is_file() and self._state(path) not in self._synced:
                half = self.copies / names[1] / path.relative_to(self.device)
                os.truncate(half, path.stat().st_size // 2)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                first = arguments[0]
                path = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(first)
                is_step = {"open": lambda: arguments[1] & os.O_CREAT, "pwrite": lambda: arguments[2] % MIB == 0}
                # The copy itself uses these calls, elsewhere.
                is_here = path.is_relative_to(self.device)
                if is_here and is_step.get(name, lambda: True)():
                    self.copy(f"{name} {path.name}")
                result = call(*arguments, **options)
                if is_here and name == "fsync" and path.is_file():
                    self._synced.add(self._state(path))
                return result

        return watched

    @staticmethod
    def _state(path: Path) -> tuple[int, int, int]:
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def main(directory: Path, url: str, old: Path, new: Path) -> None:
    """Print as JSON what each copy holds, `old` or `new`, and the steps.

    The device has what lies in `directory / "template"`. Ends with an error unless the archive of each copy can be read
    as a whole, and a fetch from there brings the new one.
    """
    # Make it here once, because each fetch would import the HTTP library anew.
    settings_of(directory / "template", url)
    api_client.get_api_client()
    device, copies = directory / "device", directory / "copies"
    shutil.copytree(directory / "template", device)
    copies.mkdir()
    assert forked(partial(fetch_watched, device, copies, url)) == 0
    steps = json.loads((directory / "steps.json").read_text())
    left = {}
    for copy in sorted(copies.iterdir()):
        state = os.waitstatus_to_exitcode(forked(partial(look, copy, old, new)))
        assert state in (OLD, NEW), f"the archive of {copy.name} is broken"
        left[copy.name] = "old" if state == OLD else "new"
        assert forked(partial(finish, copy, url, new)) == 0, copy.name
        shutil.rmtree(copy)
    print(json.dumps({"left": left, "steps": steps}))


def fetch_watched(device: Path, copies: Path, url: str) -> None:
    """Fetch, and keep the disk before each step and at the end."""
    disk = Disk(device, copies)
    disk.watch()
    fetch(device, url)
    disk.copy("the end")
    (copies.parent / "steps.json").write_text(json.dumps(disk.steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
