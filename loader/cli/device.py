"""`python -m loader status`, `login`, `load` and `upload`: a running loader, used from a terminal or a script."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from loader.cli.client import DeviceClient
from loader.cli.output import (
    Progress,
    count_text,
    json_option,
    loader_option,
    read_password,
    show,
    size_text,
    wants_json,
)
from loader.cli.transfers import open_load, send_file
from loader.files import replacement, storage

STANDARD_OUTPUT = Path("-")


@click.command()
@loader_option
@json_option
def status(loader: DeviceClient) -> None:
    """Show login, unlock, cache and downloads of the loader."""
    document = loader.get("/status")
    unlock = loader.get("/unlock/status")
    cache = document["cache"]
    lines = [
        f"login: {'logged in' if document['authenticated'] else 'nobody has logged in'}",
        f"unlock: {_unlock_text(unlock)}",
        f"cache: {count_text(cache['entries'], 'model')}, {size_text(cache['bytes'])} in {document['modelCacheDir']}",
        *(f"download: {_download_text(download)}" for download in cache["downloads"]),
    ]
    show({**document, "unlock": unlock}, "\n".join(lines))


@click.command()
@click.option("--email", required=True, help="Who logs in to the resource API.")
@loader_option
@json_option
def login(email: str, loader: DeviceClient) -> None:
    """Log in to the resource API, for all later loads and uploads.

    Asks for the password on a terminal, else reads it as one line from standard input; it is never an argument.
    """
    document = loader.post("/login", {"email": email, "password": read_password()}, patient=True)
    show(document, "logged in")


@click.command()
@loader_option
@json_option
def lock(loader: DeviceClient) -> None:
    """Make the loader forget the login and end what lives by it.

    Loads and uploads are refused until the next login, and those under way are ended, an unlock too. Images that are
    unlocked stay.
    """
    show(loader.post("/lock"), "locked")


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
def load(resource: str, output: Path, loader: DeviceClient) -> None:
    """Write the plaintext of a model to a file.

    The file appears whole or not at all, readable by its owner only; until then, and if anything fails, it stays as it
    was. A load that failed begins anew. What goes to standard output cannot be taken back: there only the exit code
    tells whether it is whole.
    """
    folder, _, filename = resource.rpartition("/")
    if not filename:
        raise click.BadParameter("A name is missing behind the folder.", param_hint="FOLDER/NAME")
    if output == STANDARD_OUTPUT and wants_json():
        raise click.UsageError("--json and -o - both want standard output.")
    _refuse_devices(output)
    began = time.monotonic()
    with (
        open_load(loader, folder, filename) as plaintext,
        storage(output, plaintext.size),
        _opened(output) as file,
        Progress(f"loading {resource}", plaintext.size) as progress,
    ):
        for piece in plaintext:
            file.write(piece)
            progress.advance(len(piece))
        file.flush()
    if output != STANDARD_OUTPUT:
        _show_transfer({"file": str(output)}, plaintext.size, began)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder")
@loader_option
@json_option
def upload(file: Path, folder: str, loader: DeviceClient) -> None:
    """Upload FILE into FOLDER, encrypted by the loader.

    It keeps its name. Ends when the resource API has it, which may be long after the loader has. FILE must not change
    meanwhile.
    """
    if not file.is_file():
        raise click.BadParameter(f"{file} is no regular file.", param_hint="FILE")
    began = time.monotonic()
    size = file.stat().st_size
    with Progress(f"uploading {file.name}", size) as progress:
        send_file(loader, file, folder, progress.advance)
    _show_transfer({"file": str(file), "folder": folder}, size, began)


def _refuse_devices(output: Path) -> None:
    """A pipe or a device would be replaced by a file, not written to."""
    with storage(output, 0):
        if output != STANDARD_OUTPUT and output.exists() and not output.is_file():
            raise click.BadParameter(f"{output} is no regular file.", param_hint="-o")


def _opened(output: Path) -> AbstractContextManager[BinaryIO]:
    # Through a link to the file that it leads to.
    return nullcontext(sys.stdout.buffer) if output == STANDARD_OUTPUT else replacement(Path(os.path.realpath(output)))


def _show_transfer(names: dict[str, str], size: int, began: float) -> None:
    seconds = round(time.monotonic() - began, 3)
    text = f"{names['file']}: {size_text(size)} in {seconds:.1f} s"
    show({**names, "bytes": size, "seconds": seconds}, text)


def _unlock_text(unlock: dict[str, Any]) -> str:
    if unlock["code"] is not None:
        return f"{unlock['state']}: {unlock['error']} ({unlock['code']})"
    if unlock["state"] in ("idle", "ready") or unlock["step"] is None:
        return str(unlock["state"])
    step = unlock["step"]
    rate = size_text(unlock["rate"])
    return f"{unlock['state']}, {unlock['percent']} %, step {step['number']} of {step['of']}, {rate}/s"


def _download_text(download: dict[str, Any]) -> str:
    done, total = download["bytes_done"], download["bytes_total"]
    return f"{download['filename']}, {size_text(done)} of {size_text(total)}, {size_text(download['rate'])}/s"
