"""The output of the demo: numbered steps, commands and responses, with colours on a terminal only."""

from __future__ import annotations

import os
import signal
import sys
import textwrap

from . import interrupts

INDENT = "    "
WIDTH = 110

BOLD, DIM, RED, GREEN, CYAN = "1", "2", "31", "32", "36"


class Screen:
    """Standard output. Every call flushes its line, also into a pipe."""

    def __init__(self) -> None:
        self._steps = 0
        # https://no-color.org: any value that is not empty.
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colours = sys.stdout.isatty() and not plain

    def title(self, text: str) -> None:
        """Print the first line."""
        self._print(self._coloured(text, BOLD))

    def step(self, title: str) -> None:
        """Start the next step."""
        self._steps += 1
        self._print("\n" + self._coloured(f"{self._steps:2}. {title}", BOLD))

    def command(self, text: str) -> None:
        """Print a command that can be pasted into a shell; its further lines are indented."""
        first, *others = text.split("\n")
        self._print(f"{INDENT}$ {self._coloured(first, CYAN)}")
        for line in others:
            self._print(f"{INDENT}    {self._coloured(line, CYAN)}")

    def output(self, text: str) -> None:
        """Print the output of a command."""
        for line in filter(None, text.splitlines()):
            self._print(f"{INDENT}{self._coloured(line, DIM)}")

    def say(self, text: str) -> None:
        """Print a remark."""
        self._print(textwrap.indent(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False), INDENT))

    def good(self, text: str) -> None:
        """Print that a check has passed."""
        self._print(f"{INDENT}{self._coloured('ok', GREEN)}: {text}")

    def bad(self, text: str) -> None:
        """Print that a check has failed."""
        self._print(f"{INDENT}{self._coloured(text, RED)}")

    def line(self, text: str = "") -> None:
        """Print a line unchanged."""
        self._print(text)

    def _coloured(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # The reader of the output is gone, so discard further output and end the demo.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            interrupts.interrupt(signal.SIGPIPE)
