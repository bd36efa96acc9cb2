"""Programs that the demo needs and a fresh machine may lack."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from . import interrupts
from .commands import SEARCH_PATH, Command, StepFailed, run
from .screen import Screen


class CannotInstall(Exception):
    """A program is missing and has to stay so; the text says why, and what to do."""


def ensure_program(screen: Screen, directory: Path, program: str, package: str) -> None:
    """Install `package` with apt-get if `program` is missing; raises CannotInstall where that is not possible."""
    if _is_there(program):
        return
    advice = f"{program} is not installed (package {package} on Debian and Ubuntu)"
    if os.geteuid() != 0:
        raise CannotInstall(f"{advice}, and only root can install it")
    if not (_is_debian_or_ubuntu() and _is_there("apt-get")):
        raise CannotInstall(f"{advice}, and only on those can the demo install it")
    screen.say(f"{program} is missing; the package {package} is installed now, and stays when the demo ends:")
    try:
        _install(screen, directory, package)
    except StepFailed as exc:
        raise CannotInstall(f"{advice}, and it cannot be installed: {exc}") from exc
    if not _is_there(program):
        raise CannotInstall(f"{advice}, although apt-get has installed that package")


def _install(screen: Screen, directory: Path, package: str) -> None:
    apt_get = ("apt-get", "--quiet")
    quietly = {"DEBIAN_FRONTEND": "noninteractive"}
    install = Command((*apt_get, "install", "--yes", "--no-install-recommends", package), quietly)
    update = Command((*apt_get, "update"))
    screen.command(str(update))
    run(update, directory)
    screen.command(str(install))
    run(Command((*install.arguments, "--download-only"), quietly), directory)
    # Ctrl-C in the middle would leave the system's packages half configured.
    with interrupts.shielded():
        run(install, directory)


def _is_there(program: str) -> bool:
    return shutil.which(program, path=SEARCH_PATH) is not None


def _is_debian_or_ubuntu() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return not {"debian", "ubuntu"}.isdisjoint([release["ID"], *release.get("ID_LIKE", "").split()])
