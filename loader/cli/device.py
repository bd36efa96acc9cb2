"""`azaion-loader status`, `login`, `lock` and `upload`: a running loader, used from a terminal or a script."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import (
    ProgressBar,
    bars_wanted,
    count_text,
    json_option,
    json_wanted,
    loader_option,
    print_result,
    size_text,
)
from loader.cli.password import read_password
from loader.cli.sending import FileUpload
from loader.cli.unlock import readiness_text


@click.command()
@loader_option
@json_option
def status(loader: LoaderClient) -> None:
    """Show login, unlock, cache and downloads of the loader, and what happened last."""
    document = loader.get("/status")
    unlock = loader.get("/unlock/status")
    cache = document["cache"]
    lines = [
        f"login: {'logged in' if document['authenticated'] else 'nobody has logged in'}",
        f"unlock: {_unlock_text(unlock)}",
        *([f"What to do: {unlock['hint']}"] if unlock["hint"] else []),
        *(f"last {event}: {_last_text(last)}" for event, last in document["last"].items() if last is not None),
        f"cache: {count_text(cache['entries'], 'model')}, {size_text(cache['bytes'])} in {document['modelCacheDir']}",
        *(f"download: {_download_text(download)}" for download in cache["downloads"]),
    ]
    print_result({**document, "unlock": unlock}, "\n".join(lines))


@click.command()
@click.option("--email", required=True, help="E-mail address of a user of the resource API.")
@loader_option
@json_option
def login(email: str, loader: LoaderClient) -> None:
    """Log in to the resource API, for all later loads and uploads.

    Prompts for the password on a terminal, and reads it as one line of standard input elsewhere; it is never an
    argument.
    """
    document = loader.post("/login", {"email": email, "password": read_password()}, patient=True)
    print_result(document, "logged in")


@click.command()
@loader_option
@json_option
def lock(loader: LoaderClient) -> None:
    """Make the loader forget the login and end everything that uses it.

    Running loads, uploads, fetches and unlocks end. Loads, uploads and fetches are refused until the next login.
    Images that are unlocked stay.
    """
    print_result(loader.post("/lock"), "locked")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder")
@loader_option
@json_option
def upload(file: Path, folder: str, loader: LoaderClient) -> None:
    """Upload FILE into FOLDER; the loader encrypts it.

    FILE keeps its name and must not change during the upload. The command ends when the resource API has stored the
    file, which may be long after the loader has received it. After a cut it goes on where it was, and so does a later
    call within ten minutes, if FILE begins with the same bytes. A loader that was restarted gets the file from its
    start.
    """
    if not file.is_file():
        raise click.BadParameter(f"{file} is not a regular file.", param_hint="FILE")
    started = time.monotonic()
    size = file.stat().st_size
    with ProgressBar(f"uploading {file.name}", size) as advance:
        FileUpload(loader, file, folder, advance, _say).send()
    _print_transfer({"file": str(file), "folder": folder}, size, started)


def _say(event: str) -> None:
    if not json_wanted():
        if bars_wanted():
            # The bar stays above, because the next one must not be drawn over the sentence.
            click.echo(err=True)
        click.echo(f"the upload {event}", err=True)


def _print_transfer(names: dict[str, str], size: int, started: float) -> None:
    seconds = round(time.monotonic() - started, 3)
    text = f"{names['file']}: {size_text(size)} in {seconds:.1f} s"
    print_result({**names, "bytes": size, "seconds": seconds}, text)


def _unlock_text(unlock: dict[str, Any]) -> str:
    if unlock["code"] is not None:
        return f"{unlock['state']}: {unlock['error']} ({unlock['code']})"
    if unlock["state"] == "ready":
        return readiness_text(unlock)
    if unlock["state"] == "idle" or unlock["step"] is None:
        return str(unlock["state"])
    step = unlock["step"]
    rate = size_text(unlock["rate"])
    return f"{unlock['state']}, {unlock['percent']} %, step {step['number']} of {step['of']}, {rate}/s"


def _last_text(last: dict[str, Any]) -> str:
    """Return when, how, by whom, from where, of which release and why not."""
    parts = [f"{last['at']}, {last['outcome']}", last["user"]]
    parts.append(f"from {last['client']}" if last["client"] is not None else None)
    parts.append(f"release {last['version']}" if last["version"] is not None else None)
    parts.append(f"{last['reason']} ({last['code']})" if last["code"] is not None else None)
    return ", ".join(part for part in parts if part is not None)


def _download_text(download: dict[str, Any]) -> str:
    done, total = download["bytes_done"], download["bytes_total"]
    return f"{download['filename']}, {size_text(done)} of {size_text(total)}, {size_text(download['rate'])}/s"
