"""Disks of a few MiB that a test can fill or make read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import missing


@contextmanager
def small_disk(mount_point: Path, size: int, inodes: int | None = None) -> Iterator[Path]:
    """Mount an empty disk of `size` bytes at the new directory `mount_point`; call `missing` if that is impossible.

    It takes `inodes` files, its own directory among them; any number if that is None.
    """
    options = f"size={size}" if inodes is None else f"size={size},nr_inodes={inodes}"
    with mounted(mount_point, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield mount_point


@contextmanager
def read_only_view(directory: Path, mount_point: Path) -> Iterator[Path]:
    """Mount `directory` read-only at the new directory `mount_point`; call `missing` if that is impossible."""
    with mounted(mount_point, "--bind", str(directory)):
        _mount("-o", "remount,bind,ro", mount_point)
        yield mount_point


def make_read_only(mount_point: Path) -> None:
    """Make a `small_disk` read-only, even for root."""
    _mount("-o", "remount,ro", mount_point)


def make_writable(mount_point: Path) -> None:
    """Make a `small_disk` writable again after `make_read_only`."""
    _mount("-o", "remount,rw", mount_point)


def free_bytes(directory: Path) -> int:
    """Return the number of free bytes on the disk of `directory`."""
    usage = os.statvfs(directory)
    return usage.f_bavail * usage.f_frsize


def fill(directory: Path, leave: int) -> Path:
    """Fill the disk of `directory` except for about `leave` bytes, and return the file that fills it."""
    filler = directory / "filler"
    with filler.open("wb") as file:
        file.write(bytes(free_bytes(directory) - leave))
    return filler


def use_inodes(directory: Path) -> list[Path]:
    """Make empty files in `directory` until its disk takes no more, and return them."""
    made: list[Path] = []
    while os.statvfs(directory).f_favail:
        made.append(directory / f"small-{len(made)}")
        made[-1].touch()
    return made


@contextmanager
def mounted(mount_point: Path, *arguments: str) -> Iterator[None]:
    """Mount what `arguments` of mount(8) say at the new directory `mount_point`; call `missing` if it cannot be."""
    if os.geteuid() != 0:
        missing("a small disk", "mounting needs root")
    mount_point.mkdir()
    try:
        _mount(*arguments, mount_point)
    except subprocess.CalledProcessError as exc:
        missing("a small disk", exc.stderr.strip())
    try:
        yield
    finally:
        # A loader that still runs keeps its directory open.
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], capture_output=True, text=True, check=True)
