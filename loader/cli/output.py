"""What the commands have in common: options, results as text or JSON, failures, and progress bars."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from loader.cli.address import FORMS
from loader.cli.client import LoaderClient
from loader.errors import CommandFault, LoaderError
from loader.files import storage
from loader.settings import BadSettings, Settings

DEFAULT_URL = "http://127.0.0.1:8080"
BAR_WIDTH = 24
REDRAW_SECONDS = 0.1
_JSON = "loader.json"
_CA = "loader.ca"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _remember_ca(ctx: click.Context, _param: click.Parameter, ca: Path | None) -> None:
    ctx.meta[_CA] = ca


def _client(ctx: click.Context, _param: click.Parameter, url: str) -> LoaderClient:
    ca = ctx.meta[_CA]
    try:
        return LoaderClient(url, ca)
    except ssl.SSLError as exc:
        raise click.BadParameter(f"{ca} holds no certificates in the format PEM.", param_hint="--ca") from exc
    except OSError as exc:
        raise click.BadParameter(f"{ca} cannot be read: {exc.strerror}.", param_hint="--ca") from exc
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _choose_json(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta[_JSON] = True


_ca_option = click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    # Read before --url, because the client needs both.
    is_eager=True,
    expose_value=False,
    callback=_remember_ca,
    help="File of the certificates (PEM) to trust for https, in place of the system's.",
)
_url_option = click.option(
    "--url",
    "loader",
    envvar="LOADER_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    callback=_client,
    help=f"The loader: {FORMS}.",
)


def loader_option(command: _Command) -> _Command:
    """Give `command` the options --url and --ca, and the parameter `loader`."""
    return _url_option(_ca_option(command))


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_choose_json,
    help="Print one JSON document instead of text.",
)


def json_wanted() -> bool:
    """Return whether the current command was called with `--json`."""
    return bool(click.get_current_context().meta.get(_JSON))


def environment_settings() -> Settings:
    """Return the configuration of the loader of this device. Raises UsageError."""
    try:
        return Settings.from_env(os.environ)
    except BadSettings as exc:
        raise click.UsageError(str(exc)) from exc


def require_replaceable(output: Path, *inputs: Path) -> Path:
    """Return the file that the option -o of a command replaces: a symbolic link stays, and its target is replaced.

    Raises BadParameter for what is no regular file, for example a pipe, and for one of the `inputs` of the command.
    """
    with storage(output, 0):
        file = Path(os.path.realpath(output))
        if os.path.lexists(file) and not file.is_file():
            raise click.BadParameter(f"{output} is not a regular file.", param_hint="-o")
        if file.exists() and any(path.exists() and path.samefile(file) for path in inputs):
            raise click.BadParameter(f"{output} is read by this command; name another file.", param_hint="-o")
    return file


def print_result(document: dict[str, Any], text: str) -> None:
    """Print the result of a command: `document` with `--json`, and `text` without."""
    click.echo(json.dumps(document) if json_wanted() else text)


def print_failure(failure: LoaderError) -> None:
    """Print a failure to standard error, or with `--json` as the one JSON document."""
    # Only failures of device commands print a hint: hints are for the operator of a device.
    hint = failure.hint if isinstance(failure, CommandFault) else ""
    if json_wanted():
        fields = {"code": failure.code, "detail": str(failure), "hint": hint, "retryable": failure.retryable}
        click.echo(json.dumps(fields))
        return
    click.echo(f"Error: {failure} ({failure.code})", err=True)
    if hint:
        click.echo(f"What to do: {hint}", err=True)


def size_text(size: float) -> str:
    """Return a number of bytes in units of 1000, such as `983 kB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def estimate_text(seconds: float) -> str:
    """Return an estimate for people, such as `a few seconds`, `45 s` or `12 min`."""
    if seconds < 10:
        return "a few seconds"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def count_text(count: int, thing: str) -> str:
    """Return `2 things` or `1 thing`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def bar_text(percent: int, label: str, rate: float, eta_seconds: float | None) -> str:
    """Return the line of a progress bar; `rate` is in bytes per second."""
    eta = "" if eta_seconds is None else f", {eta_seconds:.0f} s left"
    return f"{_bar(percent)}  {label}  {size_text(rate)}/s{eta}"


def waiting_text(percent: int, seconds: float, activity: str) -> str:
    """Return the line of a progress bar that has stood still for some seconds, because others work."""
    return f"{_bar(percent)}  {seconds:.0f} s: {activity}"


def _bar(percent: int) -> str:
    filled = BAR_WIDTH * percent // 100
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {percent:3} %"


def bars_wanted() -> bool:
    """Return whether to draw bars: on a terminal that can draw one over another, without `--json`."""
    if sys.stderr is None or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return sys.stderr.isatty() and not json_wanted()


def draw_bar(text: str, *, last: bool) -> None:
    """Draw a bar over the previous one. The last one ends its line and stays."""
    # The text is cut to the width of the terminal, because a bar that wraps cannot be drawn over.
    width = shutil.get_terminal_size().columns - 1
    click.echo(f"\r\033[K{text[:width]}", err=True, nl=last)


class ProgressBar:
    """The progress of `total` bytes: a bar on a terminal, one line elsewhere, nothing with `--json`.

    It is not `click.progressbar`, which shows no rate, wraps in a terminal that is narrower than its text, and cannot
    take the percentage and the remaining time of an unlock from the loader.
    """

    def __init__(self, label: str, total: int) -> None:
        """`total` is 0 if nobody knows it: then there is only the label."""
        self._label = label
        self._total = total
        self._done = 0
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Callable[[int], None]:
        """Return the function that adds a number of bytes to what is done."""
        if not json_wanted() and not self._is_drawn:
            click.echo(f"{self._label}: {size_text(self._total)}" if self._total else self._label, err=True)
        self._draw(last=False)
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._draw(last=True)

    def _advance(self, count: int) -> None:
        self._done += count
        if self._done >= self._total or time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw(last=False)

    @property
    def _is_drawn(self) -> bool:
        return bars_wanted() and self._total > 0

    def _draw(self, *, last: bool) -> None:
        self._drawn = now = time.monotonic()
        if self._is_drawn:
            percent = min(100, 100 * self._done // self._total)
            rate = self._done / max(now - self._started, 1e-3)
            eta = (self._total - self._done) / rate if 0 < self._done < self._total else None
            draw_bar(bar_text(percent, self._label, rate, eta), last=last)
