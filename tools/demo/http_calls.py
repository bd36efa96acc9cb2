"""Requests with curl: the demo shows them, runs them, shows the responses and compares them with what it expects."""

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

# curl prints these lines after the body, so that the user sees the status.
REPORT = r"\n%{http_code} in %{time_total} s\n"
REPORT_UP = r"\n%{http_code}, %{size_upload} bytes sent in %{time_total} s\n"
REPORT_DOWN = r"\n%{http_code}, %{size_download} bytes received in %{time_total} s\n"


@dataclass(frozen=True)
class Answer:
    """The output of curl: the body, and a last line that starts with the status."""

    printed: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.printed.splitlines()[-1][:3])

    @property
    def document(self) -> Any:
        """The JSON of the body, None if it is not JSON."""
        try:
            return json.loads(self.printed.strip().rpartition("\n")[0])
        except ValueError:
            return None


@dataclass(frozen=True)
class Caller:
    """Sends requests that the user can see."""

    screen: Screen
    directory: Path

    def call(self, command: Command, expected: str, **fields: str) -> Answer:
        """Show the command, run it and show the response. Raises StepFailed unless it is a 200 with these `fields`."""
        self.screen.command(str(command))
        answer = self.ask(command)
        self.screen.output(answer.printed)
        self.require(answer, expected, **fields)
        return answer

    def ask(self, command: Command) -> Answer:
        """Run the command without showing it."""
        return Answer(run(command, self.directory))

    def require(self, answer: Answer, expected: str, **fields: str) -> None:
        """Raise StepFailed with the response unless it is a 200 with these `fields`."""
        document = answer.document if fields else {}
        as_expected = isinstance(document, dict) and fields.items() <= document.items()
        if answer.status != HTTPStatus.OK or not as_expected:
            raise StepFailed(f"expected {expected}, got\n{answer.printed.strip()}")

    def poll(self, command: Command, field: str, ends: tuple[str, ...], seconds: float) -> Answer:
        """Show the command once and run it until `field` is one of `ends`. Show each value in between."""
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
    """Return the options to post `document`. They avoid --json, which needs curl 7.82."""
    return ("-H", "Content-Type: application/json", "-d", json.dumps(document))


def curl(*arguments: str, report: str = REPORT) -> Command:
    """Return a curl command that prints the body and then `report`."""
    proxy_set = any(os.environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    # Bypass a proxy of the user's shell, because the servers are on this machine.
    direct = ("--noproxy", "*") if proxy_set else ()
    return Command(("curl", "-sS", *direct, *arguments, "-w", report))
