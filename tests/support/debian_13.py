"""The programs of Debian 13 on an older Debian, for engines that are newer than those of this machine.

Made once per machine in the user's cache, some 450 MB in half a minute, from the mirror that apt uses here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# The variant `extract` unpacks the packages with all that they depend on, and runs none of their scripts.
MAKE = ("mmdebstrap", "--mode=root", "--variant=extract", "--include=docker.io,podman", "trixie")
MAKE_SECONDS = 300
# Mounts of the host appear inside, because a test may mount a disk for the engine, but none appears outside: all
# mounts of an engine end with its last process. Nothing needs another root, because everything but /run and /usr is
# that of this machine. /run is empty, because dockerd would use the containerd of this machine if it found its socket.
ENTER = ("unshare", "--mount", "--propagation=slave", "sh", "-euc")
MOUNT = 'mount -t tmpfs tmpfs /run; mount --bind --options ro "$0" /usr; exec "$@"'


class Debian13Unavailable(Exception):
    """The programs of Debian 13 cannot run on this machine; the text says why."""


def in_debian_13(command: Sequence[str]) -> list[str]:
    """Return what runs `command` with the programs of Debian 13 in a mount namespace of its own.

    Makes those programs if they are absent. The process that the result starts becomes that of `command`. Raises
    Debian13Unavailable.
    """
    if os.geteuid() != 0:
        raise Debian13Unavailable("another /usr needs root")
    return [*ENTER, MOUNT, str(_made() / "usr"), *command]


def _made() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "azaion-loader"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"debian-13-{hashlib.sha256(repr(MAKE).encode()).hexdigest()[:16]}"
    # One process makes it while the others wait, because the tests run in several processes.
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(root)
    return root


def _make(root: Path) -> None:
    if shutil.which(MAKE[0]) is None:
        raise Debian13Unavailable(f"{MAKE[0]} is not installed")
    with tempfile.TemporaryDirectory(dir=root.parent) as temporary:
        made = Path(temporary) / "root"
        try:
            subprocess.run([*MAKE, made, _mirror()], check=True, capture_output=True, text=True, timeout=MAKE_SECONDS)
        except subprocess.CalledProcessError as exc:
            raise Debian13Unavailable(f"{exc.cmd[0]}: {exc.stderr.strip()[-500:]}") from exc
        except subprocess.TimeoutExpired as exc:
            raise Debian13Unavailable(str(exc)) from exc
        made.rename(root)


def _mirror() -> str:
    """Return the URL from which apt takes the release of Debian that runs here."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME")
    asked = ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        if line.startswith(f"{release} "):
            return line.removeprefix(f"{release} ")
    raise Debian13Unavailable(f"apt has no mirror of {release}")
