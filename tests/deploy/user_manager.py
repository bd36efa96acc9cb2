"""A real systemd: a user manager with a /run of its own, which also runs where systemd is not the first process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env

MANAGER = "/lib/systemd/systemd"
READY_SECONDS = 20.0
CALL_SECONDS = 60
# /run/systemd/system is the sign of a machine that systemd runs, without which a manager refuses to start. It is in a
# mount namespace, so that nothing else on the machine sees it.
START = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mkdir -m 0700 -p "$XDG_RUNTIME_DIR"
exec "$0" --user --log-target=console --show-status=no --unit=basic.target
"""
BASIC = "[Unit]\nDescription=Basic System\n"


class UserManager:
    """A running manager. Its units are the files in `units`."""

    def __init__(self, process: ManagedProcess, home: Path, env: dict[str, str]) -> None:
        self.units = home / ".config/systemd/user"
        self._process = process
        self._env = env

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl in the namespace of the manager."""
        enter = ["nsenter", "--mount", "--target", str(self._process.pid), "systemctl", "--user"]
        return subprocess.run(
            [*enter, *arguments], env=self._env, capture_output=True, text=True, timeout=CALL_SECONDS, check=False
        )

    def call(self, *arguments: str) -> str:
        """Run systemctl, which must succeed, and return its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout.strip()

    def state(self, unit: str) -> str:
        """Return `active`, `activating`, `inactive` or `failed`."""
        return self.call("show", "--property=ActiveState", "--value", unit)

    def log(self) -> str:
        """Return what the manager and its units have written."""
        return self._process.stdout() + self._process.stderr()


@contextmanager
def user_manager() -> Iterator[UserManager]:
    """Start a manager, and end it with its units. Calls `missing` where it cannot run."""
    if not Path(MANAGER).exists() or shutil.which("systemctl") is None:
        missing("systemd", f"{MANAGER} is not installed")
    if os.geteuid() != 0:
        missing("systemd", "a /run of its own needs root")
    # A short path, because the manager makes sockets.
    home = Path(tempfile.mkdtemp(prefix="systemd-"))
    env = clean_env(home, XDG_RUNTIME_DIR="/run/user/0")
    (home / ".config/systemd/user").mkdir(parents=True)
    (home / ".config/systemd/user/basic.target").write_text(BASIC)
    command = ["unshare", "--mount", "--propagation=private", "sh", "-euc", START, MANAGER]
    try:
        with ManagedProcess("systemd", command, home, env=env) as process:
            manager = UserManager(process, home, env)
            process.wait_until(
                lambda: manager.run("is-active", "basic.target").returncode == 0, READY_SECONDS, "systemd is ready"
            )
            yield manager
    finally:
        shutil.rmtree(home)
