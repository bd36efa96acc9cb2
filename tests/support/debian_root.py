"""Programs of other releases and processors: a root of Debian, unpacked once per machine into the user's cache.

The packages come from the mirror that apt uses here. None of their scripts runs.
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

# The variant `extract` unpacks the packages with all that they depend on. The age of the list of packages does not
# matter, because a mirror may be behind; its signature is verified.
MAKE = ("mmdebstrap", "--mode=root", "--variant=extract", '--aptopt=Acquire::Check-Valid-Until "false"')
MAKE_SECONDS = 300
# Mounts of the host appear inside, because a test may mount a disk for an engine, but none appears outside: all mounts
# end with the last process. Nothing needs another root, because everything but /usr is that of this machine.
ENTER = ("unshare", "--mount", "--propagation=slave", "sh", "-euc")
MOUNT = 'mount --bind --options ro "$0" /usr; exec "$@"'


class DebianUnavailable(Exception):
    """The programs of another Debian cannot run on this machine; the text says why."""


def in_root(root: Path, command: Sequence[str], first: str = "") -> list[str]:
    """Return what runs `command` with the /usr of `root` in a mount namespace of its own.

    The shell command `first` runs before, with the programs of this machine. The process that the result starts becomes
    that of `command`. Raises DebianUnavailable.
    """
    if os.geteuid() != 0:
        raise DebianUnavailable("another /usr needs root")
    return [*ENTER, f"{first}{MOUNT}", str(root / "usr"), *command]


def debian_root(release: str, *options: str) -> Path:
    """Return a directory with the programs of a release of Debian; `options` of mmdebstrap name the packages.

    Makes it if it is absent. Raises DebianUnavailable.
    """
    if os.geteuid() != 0:
        raise DebianUnavailable("mmdebstrap needs root here")
    make = (*MAKE, *options, release)
    root = cache() / f"debian-{release}-{hashlib.sha256(repr(make).encode()).hexdigest()[:16]}"
    # One process makes it while the others wait, because the tests run in several processes.
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(root, make)
    return root


def cache() -> Path:
    """Return the directory for what is made once per machine."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "azaion-loader"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _make(root: Path, make: Sequence[str]) -> None:
    if shutil.which(make[0]) is None:
        raise DebianUnavailable(f"{make[0]} is not installed")
    with tempfile.TemporaryDirectory(dir=root.parent) as temporary:
        made = Path(temporary) / "root"
        try:
            subprocess.run([*make, made, _mirror()], check=True, capture_output=True, text=True, timeout=MAKE_SECONDS)
        except subprocess.CalledProcessError as exc:
            raise DebianUnavailable(f"{exc.cmd[0]}: {exc.stderr.strip()[-500:]}") from exc
        except subprocess.TimeoutExpired as exc:
            raise DebianUnavailable(str(exc)) from exc
        made.rename(root)


def _mirror() -> str:
    """Return the URL from which apt takes the release of Debian that runs here."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME")
    asked = ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        if line.startswith(f"{release} "):
            return line.removeprefix(f"{release} ")
    raise DebianUnavailable(f"apt has no mirror of {release}")
