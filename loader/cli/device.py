"""`azaion-loader status`, `login`, `lock`, `load` and `upload`: a running loader, used from a terminal or a script."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

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
    require_replaceable,
    size_text,
)
from loader.cli.password import read_password
from loader.cli.sending import FileUpload
from loader.cli.transfers import open_load
from loader.cli.unlock import readiness_text
from loader.files import replacement, storage

STANDARD_OUTPUT = Path("-")


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

    Running loads, uploads and unlocks end. Loads and uploads are refused until the next login. Images that are
    unlocked stay.
    """
    print_result(loader.post("/lock"), "locked")


@click.command()
@click.argument("resource", metavar="FOLDER/NAME")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, readable=False, allow_dash=True, path_type=Path),
    help="File to write, replaced if it exists; - for standard output.",
)
@loader_option
@json_option
def load(resource: str, output: Path, loader: LoaderClient) -> None:
    """Write the plaintext of a model to a file.

    The file appears complete or not at all, and only its owner can read it. If the load fails, an existing file stays
    as it was, and the next load starts from the first byte. Bytes on standard output cannot be taken back: only the
    exit code tells whether they are complete.
    """
    folder, _, filename = resource.rpartition("/")
    if not filename:
        raise click.BadParameter("The name after the folder is missing.", param_hint="FOLDER/NAME")
    if output == STANDARD_OUTPUT and json_wanted():
        raise click.UsageError("--json and -o - both write to standard output.")
    target = output if output == STANDARD_OUTPUT else require_replaceable(output)
    started = time.monotonic()
    with (
        open_load(loader, folder, filename) as plaintext,
        storage(output, plaintext.size),
        _opened(target) as file,
        ProgressBar(f"loading {resource}", plaintext.size) as advance,
    ):
        for piece in plaintext:
            file.write(piece)
            advance(len(piece))
        file.flush()
    if output != STANDARD_OUTPUT:
        _print_transfer({"file": str(output)}, plaintext.size, started)


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


def _opened(output: Path) -> AbstractContextManager[BinaryIO]:
    if output != STANDARD_OUTPUT:
        return replacement(output)
    if sys.stdout is None:
        raise click.UsageError("Standard output is closed.")
    return nullcontext(sys.stdout.buffer)


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
