"""Processes under test: start, wait until ready by polling, read what they wrote, end by their own pid."""

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
    """A process ended while it was waited for. The text holds the end of what it wrote."""


def poll(predicate: Callable[[], object], deadline_seconds: float, message: str) -> None:
    """Returns as soon as `predicate()` is true; raises AssertionError with `message` after `deadline_seconds`."""
    deadline = time.monotonic() + deadline_seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_seconds} s: {message}")
        time.sleep(POLL_INTERVAL_SECONDS)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_env(home: Path, **values: str) -> dict[str, str]:
    """An environment of PATH, HOME, LANG and `values`: no setting of the developer's shell reaches the process."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **values}


class ManagedProcess:
    """A child process in a session of its own, so that Ctrl-C reaches it only through `stop`.

    Its output goes to `<directory>/<name>.stdout` and `.stderr`. As a context manager it is stopped on leaving.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, *, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Starts `command` with exactly `env`; returns without waiting."""
        self.name = name
        self.stdout_path = directory / f"{name}.stdout"
        self.stderr_path = directory / f"{name}.stderr"
        self._command, self._env, self._cwd = command, dict(env), cwd
        self._popen = self._start()

    def start_again(self) -> None:
        """Starts the same command once more, after it has ended; its output goes on in the same files."""
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
        """The exit code, minus the signal number if a signal ended it, None while it runs."""
        return self._popen.poll()

    def stdout(self) -> str:
        """All that it has written to standard output so far."""
        return self.stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        """All that it has written to standard error so far."""
        return self.stderr_path.read_text(errors="replace")

    def wait_until(self, predicate: Callable[[], object], deadline_seconds: float, message: str) -> None:
        """`poll`, which fails at once with `ProcessEnded` if the process ends before `predicate()` is true."""

        def reached() -> object:
            if self.returncode is not None:
                raise ProcessEnded(f"{self.name} ended with {self.returncode} before {message}\n{self._log_tail()}")
            return predicate()

        try:
            poll(reached, deadline_seconds, message)
        except ProcessEnded:
            raise
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self._log_tail()}") from exc

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to this one process."""
        self._popen.send_signal(number)

    def wait(self, deadline_seconds: float) -> int:
        """The exit code; raises subprocess.TimeoutExpired if the process still runs after `deadline_seconds`."""
        return self._popen.wait(deadline_seconds)

    def stop(self, grace_seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and after `grace_seconds` `kill_tree`. Returns the exit code; harmless if the process has ended."""
        self._popen.terminate()
        try:
            return self.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            return self.kill_tree()

    def kill_tree(self) -> int:
        """SIGKILL to the process and all its descendants, which nobody would end otherwise. Returns the exit code."""
        # Stopped first, so that it starts and reaps nothing while its descendants are looked up.
        self._popen.send_signal(signal.SIGSTOP)
        for pid in descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in the meantime
                os.kill(pid, signal.SIGKILL)
        self._popen.kill()
        return self.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _log_tail(self) -> str:
        return (self.stdout() + self.stderr())[-LOG_TAIL_CHARACTERS:]
