"""What the commands print: results as text or JSON, failures, sizes, and the one kind of bar."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any, Self

import click

from loader.cli.client import DeviceClient
from loader.errors import CommandFault, LoaderError

BAR_WIDTH = 24
REDRAW_SECONDS = 0.1
_JSON = "loader.json"
DEFAULT_URL = "http://127.0.0.1:8080"


def want_json() -> None:
    """From now on the present command prints one JSON document on standard output and nothing else."""
    click.get_current_context().meta[_JSON] = True


def wants_json() -> bool:
    """Whether `want_json` was called."""
    return bool(click.get_current_context().meta.get(_JSON))


def show(document: dict[str, Any], text: str) -> None:
    """Print a result."""
    click.echo(json.dumps(document) if wants_json() else text)


def show_failure(failure: LoaderError) -> None:
    """Print a failure: on standard error, or as the one JSON document."""
    # Hints are for the operator of a device; what goes wrong while packing says all by itself.
    hint = failure.hint if isinstance(failure, CommandFault) else ""
    if wants_json():
        fields = {"code": failure.code, "detail": str(failure), "hint": hint, "retryable": failure.retryable}
        click.echo(json.dumps(fields))
        return
    click.echo(f"Error: {failure} ({failure.code})", err=True)
    if hint:
        click.echo(f"What to do: {hint}", err=True)


def size_text(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def count_text(count: int, thing: str) -> str:
    """`2 things`, `1 thing`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def progress_text(percent: int, label: str, rate: float, eta_seconds: float | None) -> str:
    """A bar with what it is about: `rate` in bytes a second."""
    filled = BAR_WIDTH * percent // 100
    eta = "" if eta_seconds is None else f", {eta_seconds:.0f} s left"
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {percent:3} %  {label}  {size_text(rate)}/s{eta}"


def live() -> bool:
    """Whether somebody watches: only then there are bars."""
    return sys.stderr.isatty() and not wants_json()


def draw(text: str, *, last: bool) -> None:
    """Write a bar over the one before; the last one stays."""
    # One that is broken into two lines could not be written over.
    width = shutil.get_terminal_size().columns - 1
    click.echo(f"\r\033[K{text[:width]}", err=True, nl=last)


class Progress:
    """How far something of `total` bytes is: a bar on a terminal, one line elsewhere, nothing beside JSON."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._began = self._drawn = time.monotonic()

    def advance(self, count: int) -> None:
        """Count bytes as done."""
        self._done += count
        if self._done >= self._total or time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw(last=False)

    def __enter__(self) -> Self:
        if not live() and not wants_json():
            click.echo(f"{self._label}: {size_text(self._total)}", err=True)
        self._draw(last=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._draw(last=True)

    def _draw(self, *, last: bool) -> None:
        self._drawn = now = time.monotonic()
        if live():
            percent = min(100, 100 * self._done // self._total) if self._total else 100
            rate = self._done / max(now - self._began, 1e-3)
            eta = (self._total - self._done) / rate if 0 < self._done < self._total else None
            draw(progress_text(percent, self._label, rate, eta), last=last)


def _client(_ctx: click.Context, _param: click.Parameter, url: str) -> DeviceClient:
    return DeviceClient(url)


def _note_json(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        want_json()


loader_option = click.option(
    "--url",
    "loader",
    envvar="LOADER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    callback=_client,
    help="The loader: http://host:port or unix:/path.",
)
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_note_json,
    help="Print one JSON document instead of text.",
)


def read_password() -> str:
    """Asked for on a terminal, else one line of standard input; never an argument, which others could see."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")
