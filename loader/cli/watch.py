"""Shows a background job of the loader until it ends: a bar in a terminal, lines to a script."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator
from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import bar_text, bars_wanted, draw_bar, json_wanted, waiting_text
from loader.errors import Interrupted, LoaderProblem

POLL_SECONDS = 0.25
# After this time without a byte, a bar tells what is going on in place of a rate of nothing.
SILENT_SECONDS = 5.0


def watch(loader: LoaderClient, path: str, ends: Container[str], goes_on: str) -> dict[str, Any]:
    """Show the job whose report is at `path` until its state is one of `ends`, and return its last report.

    Ctrl-C ends the command and not the job, which the sentence `goes_on` then says.
    """
    try:
        return _watch(loader, path, ends)
    except KeyboardInterrupt:
        if not json_wanted():
            click.echo(f"\n{goes_on}", err=True)
        raise


def require_ended_well(report: dict[str, Any], end: str, job: str) -> None:
    """Raise the error of a job, which a sentence calls `job`, unless its last report has the state `end`."""
    if report["state"] != end:
        detail = report["error"] or f"The loader was restarted during the {job}."
        code, retryable = report["code"] or Interrupted.code, report["retryable"] is not False
        raise LoaderProblem(code, detail, report["hint"], retryable=retryable)


def _watch(loader: LoaderClient, path: str, ends: Container[str]) -> dict[str, Any]:
    shown: set[str] = set()
    while True:
        status = loader.get(path)
        ended = status["state"] in ends
        if status["step"] and bars_wanted():
            draw_bar(_bar_of(status), last=ended)
        elif status["step"] and not json_wanted():
            for line in _lines_of(status):
                if line not in shown:
                    click.echo(line, err=True)
                    shown.add(line)
        if ended:
            return status
        time.sleep(POLL_SECONDS)


def _bar_of(status: dict[str, Any]) -> str:
    step, percent = status["step"], status["percent"]
    if status["activity"] and status["silent_seconds"] >= SILENT_SECONDS:
        return waiting_text(percent, status["silent_seconds"], status["activity"])
    label = f"{step['number']}/{step['of']} {step['name']}"
    return bar_text(percent, label, status["rate"], status["eta_seconds"])


def _lines_of(status: dict[str, Any]) -> Iterator[str]:
    """Yield what a script is told, each line once."""
    step = status["step"]
    yield f"step {step['number']} of {step['of']}: {step['name']}"
    if status["activity"] and status["silent_seconds"] >= SILENT_SECONDS:
        yield status["activity"]
