"""A process that fetches again and again; each fetch is killed one step later than the one before.

Each fetch, and each look at what it left, is a process of its own, forked before this one has any thread.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from loader import api_client
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.state import STEPS, _FetchStateHolder
from loader.fetch.steps import FetchRun, run_fetch
from loader.settings import Settings
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from tests.fetch.published import VERSION
from tests.install.killed import BROKEN, NEW, OLD, forked, stepping
from tests.packing.packs import contents

CALLS = ("fsync", "replace", "unlink", "rmdir", "mkdir", "chmod", "fchmod", "open", "pwrite")


def main(directory: Path, url: str, old: Path, new: Path) -> None:
    """Print as JSON what each kill left, `old` or `new`, and the steps of the fetch that was not killed.

    The device has what lies in `directory / "template"`. Ends with an error unless an archive was whole each time, and
    the next fetch brought the new one.
    """
    # Make it here once, because each fetch would import the HTTP library anew.
    settings_of(directory / "template", url)
    api_client.get_api_client()
    left: list[str] = []
    while True:
        device = directory / str(len(left))
        shutil.copytree(directory / "template", device)
        if not os.WIFSIGNALED(forked(partial(fetch_until, device, url, len(left)))):
            break
        state = os.waitstatus_to_exitcode(forked(partial(look, device, old, new)))
        assert state in (OLD, NEW), f"after step {len(left)} the archive is broken"
        left.append("old" if state == OLD else "new")
        assert forked(partial(finish, device, url, new)) == 0, f"after step {len(left)}"
        shutil.rmtree(device)
    print(json.dumps({"left": left, "steps": json.loads((directory / "steps.json").read_text())}))


def fetch_until(device: Path, url: str, step: int) -> None:
    """Fetch, but die before the step of this number."""
    done: list[str] = []
    for name in CALLS:
        setattr(os, name, stepping(name, getattr(os, name), done, step))
    fetch(device, url)
    (device.parent / "steps.json").write_text(json.dumps(done))


def fetch(device: Path, url: str) -> None:
    """Fetch as the loader of this device does."""
    settings = settings_of(device, url)
    api_client.get_api_client().login("operator@example.com", "password")
    state, progress = _FetchStateHolder(), UnlockProgress(STEPS)
    state.start(VERSION, progress)
    run_fetch(FetchRun(settings, VERSION, RightOfWay(lambda: None), progress, Interrupter(), state))


def settings_of(device: Path, url: str) -> Settings:
    """Return the configuration of a device, and make a client of its API when it is needed."""
    settings = Settings.from_env(
        {"RESOURCE_API_URL": url, "IMAGES_PATH": str(device / "images.enc"), "API_VERSION": VERSION}
    )
    api_client.configure(settings)
    return settings


def look(device: Path, old: Path, new: Path) -> int:
    """Return which archive is in its place, if all of its blobs are there."""
    found = contents(device / "images.enc")
    if found == contents(old):
        return OLD
    return NEW if found == contents(new) else BROKEN


def finish(device: Path, url: str, new: Path) -> int:
    """Fetch once more; then there is nothing but the new release."""
    fetch(device, url)
    names = {path.name for path in (device / "images.blobs").iterdir()}
    whole = {name for name in names if len(name) == 64}
    return 0 if contents(device / "images.enc") == contents(new) and names == whole else BROKEN


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
