"""A tmpfs of a few MiB that a test can fill or make read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import missing


@contextmanager
def small_disk(mount_point: Path, size: int) -> Iterator[Path]:
    """Mount an empty disk of `size` bytes at the new directory `mount_point`; call `missing` if that is impossible."""
    if os.geteuid() != 0:
        missing("a small disk", "mounting a tmpfs needs root")
    mount_point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount_point)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        missing("a small disk", done.stderr.strip())
    try:
        yield mount_point
    finally:
        # A loader that still runs keeps its directory open.
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


@contextmanager
def read_only_view(directory: Path, mount_point: Path) -> Iterator[Path]:
    """Mount `directory` read-only at the new directory `mount_point`; call `missing` without root."""
    if os.geteuid() != 0:
        missing("a read-only disk", "a bind mount needs root")
    mount_point.mkdir()
    subprocess.run(["mount", "--bind", str(directory), str(mount_point)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount_point)], check=True)
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


def make_read_only(mount_point: Path) -> None:
    """Make a `small_disk` read-only, even for root."""
    subprocess.run(["mount", "-o", "remount,ro", str(mount_point)], check=True)


def make_writable(mount_point: Path) -> None:
    """Make a `small_disk` writable again after `make_read_only`."""
    subprocess.run(["mount", "-o", "remount,rw", str(mount_point)], check=True)


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
