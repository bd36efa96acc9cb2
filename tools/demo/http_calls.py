"""Calls with curl: shown, run, and their answers shown and compared with what is expected."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .commands import Command, StepFailed, run
from .screen import Screen

POLL_SECONDS = 0.05

# curl adds these lines to what it prints, so that the status is there to see.
REPORT = r"\n%{http_code} in %{time_total} s\n"
REPORT_UP = r"\n%{http_code}, %{size_upload} bytes sent in %{time_total} s\n"
REPORT_DOWN = r"\n%{http_code}, %{size_download} bytes received in %{time_total} s\n"


@dataclass(frozen=True)
class Answer:
    """What curl has printed: the body, and a last line that begins with the status."""

    printed: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.printed.splitlines()[-1][:3])

    @property
    def document(self) -> Any:
        """The JSON of the body, None if it is none."""
        try:
            return json.loads(self.printed.strip().rpartition("\n")[0])
        except ValueError:
            return None


@dataclass(frozen=True)
class Caller:
    """Makes calls in the user's sight."""

    screen: Screen
    directory: Path

    def call(self, command: Command, expected: str, **fields: str) -> Answer:
        """Show the command, run it, show the answer. Raises StepFailed unless it is 200 with these `fields`."""
        self.screen.command(str(command))
        answer = self.ask(command)
        self.screen.output(answer.printed)
        self.require(answer, expected, **fields)
        return answer

    def ask(self, command: Command) -> Answer:
        """Run the command, unseen."""
        return Answer(run(command, self.directory))

    def require(self, answer: Answer, expected: str, **fields: str) -> None:
        """Raises StepFailed, with the answer, unless it is 200 with these `fields`."""
        document = answer.document if fields else {}
        as_expected = isinstance(document, dict) and fields.items() <= document.items()
        if answer.status != HTTPStatus.OK or not as_expected:
            raise StepFailed(f"expected {expected}, got\n{answer.printed.strip()}")

    def poll(self, command: Command, field: str, ends: tuple[str, ...], seconds: float) -> Answer:
        """Show the command once and run it until `field` is one of `ends`; each value on the way is shown."""
        self.screen.command(str(command))
        deadline = time.monotonic() + seconds
        seen = None
        while True:
            answer = self.ask(command)
            self.require(answer, "the status")
            value = answer.document[field]
            if value != seen:
                self.screen.output(answer.printed)
                seen = value
            if value in ends:
                return answer
            if time.monotonic() > deadline:
                raise StepFailed(f"expected {' or '.join(ends)} within {seconds:.0f} s, still {value}")
            time.sleep(POLL_SECONDS)


def get(url: str) -> Command:
    """GET."""
    return curl(url)


def post_json(url: str, document: Mapping[str, str]) -> Command:
    """POST of JSON."""
    return curl(url, *json_arguments(document))


def json_arguments(document: Mapping[str, str]) -> tuple[str, ...]:
    """How curl is told to post `document`. Not with --json, which curl has since 7.82 only."""
    return ("-H", "Content-Type: application/json", "-d", json.dumps(document))


def curl(*arguments: str, report: str = REPORT) -> Command:
    """A curl command that prints the body and, after it, `report`."""
    proxy_set = any(os.environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    # The servers are on this machine: where a person's shell names a proxy, the command has to say so.
    direct = ("--noproxy", "*") if proxy_set else ()
    return Command(("curl", "-sS", *direct, *arguments, "-w", report))
