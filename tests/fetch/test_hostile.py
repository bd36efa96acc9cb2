"""What an operator and a disk do at the worst moment: the old release or the new one is whole, and the next fetch ends.

A fetch that a cancel or the disk ends says so with an error of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loader import api_client
from loader.errors import DiskSpace, Interrupted, StorageError
from loader.fetch import steps
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.state import STEPS, _FetchStateHolder
from loader.fetch.steps import INSTALLING, FetchRun, run_fetch
from loader.install import install
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from tests.fetch.killed import fetch, finish, look, settings_of
from tests.fetch.published import VERSION, hold, objects, release
from tests.install.killed import NEW, OLD
from tests.packing.packs import unwatched
from tests.support.range_upstream import RangeUpstream

# What a disk that is full refuses, and one that is read-only.
FULL = ("open", "pwrite", "fsync", "mkdir")
READ_ONLY = (*FULL, "replace", "unlink", "rmdir", "chmod", "fchmod")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class BadDisk:
    """Refuses all writes below `directory` from number `first` on. `seen` is how many there were."""

    def __init__(self, directory: Path, error: int, first: int) -> None:
        self._directory = f"{directory}/"
        self._error = error
        self._first = first
        self._lock = threading.Lock()
        self.seen = 0

    def guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function `real` of this name as it is with this disk."""

        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            is_write = name != "open" or (arguments and arguments[0] & WRITING)
            if is_write and self._path(target).startswith(self._directory):
                with self._lock:
                    self.seen += 1
                    refused = self.seen > self._first
                if refused:
                    raise OSError(self._error, os.strerror(self._error), str(target))
            return real(target, *arguments, **options)

        return call

    def _path(self, target: Any) -> str:
        return str(Path(f"/proc/self/fd/{target}").readlink()) if isinstance(target, int) else os.fspath(target)


class Site:
    """An API with the new release, and copies of a device that has the old one."""

    def __init__(self, directory: Path, api: RangeUpstream) -> None:
        self.url = api.url
        self.old, self.new = (release(directory / f"{number}.enc", number, 4096) for number in (1, 2))
        self._directory = directory
        self._made = 0
        install(self.old, directory / "template" / "images.enc", VERSION, unwatched)
        hold(api, directory / "published", objects(self.new))

    def device(self) -> Path:
        """Return the directory of another device."""
        self._made += 1
        return Path(shutil.copytree(self._directory / "template", self._directory / str(self._made)))

    def require_well(self, device: Path, states: tuple[int, ...]) -> None:
        """Fail unless the device has a whole archive of one of these states, and the next fetch brings the new one."""
        assert look(device, self.old, self.new) in states
        assert finish(device, self.url, self.new) == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Use `Site`."""
    for name in ("template", "published"):
        (tmp_path / name).mkdir()
    with RangeUpstream(tmp_path / "published") as api:
        yield Site(tmp_path, api)
    api_client.forget_login()


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "names", "kind"), [(errno.ENOSPC, FULL, DiskSpace), (errno.EROFS, READ_ONLY, StorageError)]
)
def test_a_disk_that_takes_no_more_from_any_step_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: int, names: tuple[str, ...], kind: type[Exception]
) -> None:
    left = set()
    for first in itertools.count():
        device = site.device()
        disk = BadDisk(device, error, first)
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, disk.guarded(name, getattr(os, name)))
            try:
                fetch(device, site.url)
            except kind:
                left.add(look(device, site.old, site.new))
        site.require_well(device, (OLD, NEW))
        shutil.rmtree(device)
        if disk.seen <= first:
            break
    assert first > 20
    assert OLD in left


def cancellable(device: Path, url: str) -> FetchRun:
    """Return a fetch on this device that nobody has started."""
    settings = settings_of(device, url)
    api_client.get_api_client().login("operator@example.com", "password")
    state, progress = _FetchStateHolder(), UnlockProgress(STEPS)
    state.start(VERSION, progress)
    return FetchRun(settings, VERSION, RightOfWay(lambda: None), progress, Interrupter("fetch", ""), state)


def test_a_cancel_at_any_piece_of_the_installation(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = steps.FetchRun.go_on
    for number in itertools.count(1):
        device = site.device()
        run = cancellable(device, site.url)
        seen = 0

        def counted(run: FetchRun, activity: str, number: int = number) -> None:
            nonlocal seen
            seen += activity == INSTALLING
            if seen == number:
                run.interrupter.stop("it was cancelled")
            go_on(run, activity)

        with monkeypatch.context() as patch:
            patch.setattr(steps.FetchRun, "go_on", counted)
            if has_ended_well(run):
                break
        site.require_well(device, (OLD,))
    assert number > 3


def test_a_cancel_at_the_rename_comes_too_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    device = site.device()
    run = cancellable(device, site.url)
    replace = os.replace

    def cancelled(source: Any, target: Any) -> None:
        if Path(target) == run.place:
            run.interrupter.stop("it was cancelled")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cancelled)
        run_fetch(run)
    assert not (device / "images.blobs" / "fetched.head").exists()
    site.require_well(device, (NEW,))


def has_ended_well(run: FetchRun) -> bool:
    """Return whether the fetch ended well, because it had fewer pieces; else it was interrupted."""
    try:
        run_fetch(run)
    except Interrupted:
        return False
    return True
