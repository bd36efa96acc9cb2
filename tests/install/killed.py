"""A process that installs again and again; each installation is killed one step later than the one before.

Each installation, and each look at what it left, is a process of its own, forked before this one has any thread.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.install.device import Device
from tests.packing.packs import contents
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.thin_archives import BOTTOM, MIB, thin_of, top

STEPS = ("fsync", "replace", "unlink", "rmdir", "mkdir", "fchmod", "open", "pwrite")
OLD, NEW, BROKEN = 10, 11, 12


def main(directory: Path) -> None:
    """Print as JSON what each kill left, `old` or `new`, and the steps of the installation that was not killed.

    Ends with an error unless that archive was whole each time, and the next installation left nothing else.
    """
    template = Device(directory)
    delta = prepare(template)
    left: list[str] = []
    while True:
        device = Device(directory / str(len(left)), like=template)
        if not os.WIFSIGNALED(forked(partial(install, device, delta, len(left)))):
            break
        state = os.waitstatus_to_exitcode(forked(partial(look, device, template)))
        assert state in (OLD, NEW), f"after step {len(left)} the archive is broken"
        left.append("old" if state == OLD else "new")
        assert forked(partial(finish, device, delta, template)) == 0, f"after step {len(left)}"
        shutil.rmtree(device.place.parent.parent)
    print(json.dumps({"left": left, "steps": json.loads((directory / "steps.json").read_text())}))


def prepare(device: Device) -> Path:
    """Install a thin archive, and return another one.

    What this one lacks lies in the directory, or in the file of the first; and it does not need all of the rest.
    """
    delta = device.carried / "delta.enc"

    def carry() -> None:
        device.install(device.full(1))
        device.install(device.thin(2, 1))
        new = seal(device.carried / "new.enc", [HandmadeImage("registry.local:5000/app:9", (BOTTOM, top(2), top(9)))])
        delta.write_bytes(thin_of(new, device.full(2)))

    assert forked(carry) == 0
    return delta


def forked(work: Callable[[], Any]) -> int:
    """Run `work` in a process of its own, whose exit code it may return, and return the status of that."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = BROKEN
    try:
        result = work()
        code = result if isinstance(result, int) else 0
    except BaseException:  # noqa: BLE001  # nothing may get back to the caller's stack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def install(device: Device, delta: Path, step: int) -> None:
    """Install `delta`, but die before the step of this number."""
    done: list[str] = []
    for name in STEPS:
        setattr(os, name, stepping(name, getattr(os, name), done, step))
    device.install(delta)
    (device.place.parent.parent.parent / "steps.json").write_text(json.dumps(done))


def stepping(name: str, call: Callable[..., Any], done: list[str], last: int) -> Callable[..., Any]:
    """Return `call`, which adds itself to the steps that are done, if it changes the disk."""

    def stepped(*arguments: Any, **options: Any) -> Any:
        is_step = {"open": lambda: arguments[1] & os.O_CREAT, "pwrite": lambda: arguments[2] % MIB == 0}
        if is_step.get(name, lambda: True)():
            # Two threads may have taken the step before at once.
            if len(done) >= last:
                os.kill(os.getpid(), signal.SIGKILL)
            first = arguments[0]
            path = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(first)
            done.append(f"{name} {path.name}" + (f" {Path(arguments[1]).name}" if name == "replace" else ""))
        return call(*arguments, **options)

    return stepped


def look(device: Device, template: Device) -> int:
    """Return which archive is installed, if all of its blobs are there."""
    found = contents(device.place)
    if found == contents(template.full(2)):
        return OLD
    return NEW if found == contents(template.carried / "new.enc") else BROKEN


def finish(device: Device, delta: Path, template: Device) -> None:
    """Install `delta` once more; then there is nothing but it."""
    device.install(delta)
    device.require(template.carried / "new.enc")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
