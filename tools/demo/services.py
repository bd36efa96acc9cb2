"""The programs and the temporary directory of the demo, which end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import interrupts
from .commands import REPOSITORY, Command, StepFailed, environment

POLL_SECONDS = 0.05
STOP_SECONDS = 15
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Service:
    """A running program whose output goes to `log`."""

    def __init__(self, name: str, command: Command, directory: Path, log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command.arguments,
                cwd=REPOSITORY,
                env=environment(directory, command.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def require_running(self) -> None:
        """Raise StepFailed if the program has ended."""
        if self._process.poll() is not None:
            raise StepFailed(f"expected {self.name} to keep running, but it ended with {self._process.returncode}")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the program is ready. Raises StepFailed if it ends or is not ready in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.require_running()
            if time.monotonic() > deadline:
                raise StepFailed(f"expected {self.name} to answer within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Terminate the program; kill it and its workers if it does not end in time."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Kill its process group, because its workers are in it.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def start(cleanup: ExitStack, name: str, command: Command, directory: Path) -> Service:
    """Start a program that `cleanup` stops. It logs to `logs/<name>.log` below `directory`."""
    with interrupts.shielded():
        service = Service(name, command, directory, directory / "logs" / f"{name}.log")
        cleanup.callback(service.stop)
    return service


def adopt_orphans() -> None:
    """Make the demo the parent of processes whose parent ends, so that `end_orphans` finds them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kill the processes that are left after all programs were stopped, and the orphans of these processes."""
    while children := _children(os.getpid()):
        for pid in children:
            # The pid is still this child's, because a child keeps its pid until it is reaped.
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            # The name before, in parentheses, may itself hold spaces and parentheses.
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


PREFIX = "azaion-demo-"
LOG_TAIL_LINES = 12


@contextmanager
def workspace() -> Iterator[Path]:
    """A new directory with a `logs` in it. At the end, kill remaining processes and remove mounts and the directory."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (directory / "logs").mkdir()
        yield directory
    finally:
        end_orphans()
        _unmount_below(directory)
        shutil.rmtree(directory)


def log_tails(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Return the last lines of each log that is not empty."""
    for log in sorted((directory / "logs").iterdir()):
        lines = log.read_text(errors="replace").splitlines()
        if lines:
            yield log, lines[-LOG_TAIL_LINES:]


def _unmount_below(directory: Path) -> None:
    """Unmount what a killed engine left. Raises if a mount stays, because deletion must not go through a mount."""
    mounts = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # Unmount in reverse order, because inner mounts come last.
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", mount], check=True)


def _unescaped(path: str) -> str:
    r"""Decode a path of /proc: space, tab, line break and backslash are written as `\040` and so on; see proc(5)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
