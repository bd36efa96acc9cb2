"""What the demo prints: numbered steps, the commands, what came back. Colours on a terminal only."""

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
    """Standard output. Every line is out before the call returns, also into a pipe."""

    def __init__(self) -> None:
        self._steps = 0
        # https://no-color.org: any value that is not empty.
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colours = sys.stdout.isatty() and not plain

    def title(self, text: str) -> None:
        """The first line."""
        self._print(self._coloured(text, BOLD))

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print("\n" + self._coloured(f"{self._steps:2}. {title}", BOLD))

    def command(self, text: str) -> None:
        """A command, as it can be pasted into a shell; its further lines are indented."""
        first, *others = text.split("\n")
        self._print(f"{INDENT}$ {self._coloured(first, CYAN)}")
        for line in others:
            self._print(f"{INDENT}    {self._coloured(line, CYAN)}")

    def output(self, text: str) -> None:
        """What a command has answered."""
        for line in filter(None, text.splitlines()):
            self._print(f"{INDENT}{self._coloured(line, DIM)}")

    def say(self, text: str) -> None:
        """A remark."""
        self._print(textwrap.indent(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False), INDENT))

    def good(self, text: str) -> None:
        """Something was checked, and is as it should be."""
        self._print(f"{INDENT}{self._coloured('ok', GREEN)}: {text}")

    def bad(self, text: str) -> None:
        """Something is not as it should be."""
        self._print(f"{INDENT}{self._coloured(text, RED)}")

    def line(self, text: str = "") -> None:
        """A line as it is."""
        self._print(text)

    def _coloured(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # The reader is gone, be it a pipe or a terminal: what is still to say goes nowhere, and the demo ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            interrupts.interrupt(signal.SIGPIPE)
