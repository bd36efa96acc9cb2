"""Processes under test: start them, poll until they are ready, read their output, stop them by their own pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.procfs import descendants

POLL_INTERVAL_SECONDS = 0.02
STOP_SECONDS = 15.0
LOG_TAIL_CHARACTERS = 2_000


class ProcessEnded(AssertionError):
    """A process ended while a test waited for it. The text contains the end of its output."""


def poll(predicate: Callable[[], object], deadline_seconds: float, message: str) -> None:
    """Return as soon as `predicate()` is true. Raises AssertionError with `message` after `deadline_seconds`."""
    deadline = time.monotonic() + deadline_seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_seconds} s: {message}")
        time.sleep(POLL_INTERVAL_SECONDS)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_env(home: Path, **values: str) -> dict[str, str]:
    """Return an environment with PATH, HOME, LANG and `values`, and without the settings of the developer's shell."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **values}


class ManagedProcess:
    """A child process in a session of its own, so that Ctrl-C in the terminal does not reach it.

    Its output goes to `<directory>/<name>.stdout` and `.stderr`. The end of the `with` block stops it.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, *, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start `command` with exactly the environment `env`, and return without waiting."""
        self.name = name
        self.stdout_path = directory / f"{name}.stdout"
        self.stderr_path = directory / f"{name}.stderr"
        self._command, self._env, self._cwd = command, dict(env), cwd
        self._popen = self._start()

    def restart(self) -> None:
        """Start the same command once more after it has ended. The output is appended to the same files."""
        self._popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.stdout_path.open("ab") as stdout, self.stderr_path.open("ab") as stderr:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative signal number if a signal ended the process; None while it runs."""
        return self._popen.poll()

    def stdout(self) -> str:
        """Return everything that the process has written to standard output so far."""
        return self.stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        """Return everything that the process has written to standard error so far."""
        return self.stderr_path.read_text(errors="replace")

    def wait_until(self, predicate: Callable[[], object], deadline_seconds: float, message: str) -> None:
        """Wait like `poll`, but raise `ProcessEnded` at once if the process ends before `predicate()` is true."""

        def reached() -> object:
            if self.returncode is not None:
                raise ProcessEnded(f"{self.name} ended with {self.returncode} before {message}")
            return predicate()

        try:
            poll(reached, deadline_seconds, message)
        except AssertionError as exc:
            tail = (self.stdout() + self.stderr())[-LOG_TAIL_CHARACTERS:]
            raise type(exc)(f"{exc}\n{tail}") from exc

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only, not to its children."""
        self._popen.send_signal(number)

    def wait(self, deadline_seconds: float) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired after `deadline_seconds`."""
        return self._popen.wait(deadline_seconds)

    def stop(self, grace_seconds: float = STOP_SECONDS) -> int:
        """Send SIGTERM, call `kill_tree` after `grace_seconds`, and return the exit code.

        If the process has ended already, only return the exit code.
        """
        self._popen.terminate()
        try:
            return self.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            return self.kill_tree()

    def kill_tree(self) -> int:
        """Send SIGKILL to the process and all its descendants, and return the exit code."""
        # Pause the process first, so that it neither starts nor reaps children during the search for descendants.
        self._popen.send_signal(signal.SIGSTOP)
        for pid in descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):  # the descendant has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        self._popen.kill()
        return self.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
