"""Runs of the command line in this process, and in a terminal."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from loader.cli.main import main
from tests.support.loader_server import COMMAND, REPOSITORY, RUN_SECONDS
from tests.support.processes import clean_env


def invoke(url: str, *arguments: str, stdin: str | bytes = "") -> Result:
    """Run the command in this process, without a terminal, against the loader at `url`."""
    return CliRunner().invoke(main, arguments, input=stdin, env={"LOADER_URL": url})


class Terminal:
    """The command in a terminal of its own. `shown` is everything that the terminal has shown."""

    def __init__(self, home: Path, *arguments: str, term: str) -> None:
        self.shown = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover  # another program from here on
            os.chdir(REPOSITORY)
            env = clean_env(home, TERM=term)
            os.execve(COMMAND[0], [*COMMAND, *arguments], env)  # noqa: S606  # a shell is not wanted

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown

    def end(self) -> int:
        """Read the rest of the output, and return the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> bool:
        readable, _, _ = select.select([self._fd], [], [], RUN_SECONDS)
        try:
            data = os.read(self._fd, 1 << 16) if readable else b""
        except OSError:  # what Linux says when the other side of a terminal is closed
            return False
        self.shown += data.decode()
        return bool(data)


@contextmanager
def terminal(home: Path, *arguments: str, term: str = "xterm") -> Iterator[Terminal]:
    opened = Terminal(home, *arguments, term=term)
    try:
        yield opened
    finally:
        opened.close()
