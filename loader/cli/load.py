"""`azaion-loader load`: the plaintext of a model to a file or to standard output."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import BinaryIO

import click

from loader.cli.client import LoaderClient
from loader.cli.loaded_file import begun, forget_begun, known_etag, loaded_file
from loader.cli.output import (
    ProgressBar,
    json_option,
    json_wanted,
    loader_option,
    print_result,
    require_replaceable,
    size_text,
)
from loader.cli.transfers import OpenLoad, open_load
from loader.cli.waiting import Waiting, wait_option
from loader.errors import AnswerCut, CommandFault, LoaderError
from loader.files import storage

STANDARD_OUTPUT = Path("-")


@click.command()
@click.argument("resource", metavar="FOLDER/NAME")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, readable=False, allow_dash=True, path_type=Path),
    help="File to write, replaced if it exists; - for standard output.",
)
@wait_option
@loader_option
@json_option
def load(resource: str, output: Path, wait: float, loader: LoaderClient) -> None:
    """Write the plaintext of a model to a file.

    The file appears complete or not at all, and only its owner can read it. If the load fails, an existing file stays
    as it was, and the next load continues where this one ended. If FILE is the model already, nothing is loaded. Bytes
    on standard output cannot be taken back: only the exit code tells whether they are complete.

    With --wait the command tries again: while no loader responds, nobody has logged in, all transfer slots are taken,
    or an error may pass by itself. The seconds start again whenever bytes arrive.
    """
    folder, _, filename = resource.rpartition("/")
    if not filename:
        raise click.BadParameter("The name after the folder is missing.", param_hint="FOLDER/NAME")
    if output == STANDARD_OUTPUT and json_wanted():
        raise click.UsageError("--json and -o - both write to standard output.")
    started = time.monotonic()
    loading = _Loading(loader, folder, filename, Waiting(wait))
    if output == STANDARD_OUTPUT:
        loading.to_standard_output()
        return
    size = loading.to_file(require_replaceable(output))
    unchanged = size is None
    seconds = round(time.monotonic() - started, 3)
    with storage(output, 0):
        size = output.stat().st_size if size is None else size
    text = f"{output}: unchanged" if unchanged else f"{output}: {size_text(size)} in {seconds:.1f} s"
    print_result({"file": str(output), "bytes": size, "seconds": seconds, "unchanged": unchanged}, text)


class _Loading:
    """A load that is tried again as long as `waiting` permits."""

    def __init__(self, loader: LoaderClient, folder: str, filename: str, waiting: Waiting) -> None:
        self._loader = loader
        self._folder = folder
        self._filename = filename
        self._waiting = waiting

    def to_file(self, target: Path) -> int | None:
        """Load to a file, and return its size; None if it is the present edition already."""
        while True:
            with storage(target, 0):
                known, here = known_etag(target), begun(target)
            try:
                with open_load(self._loader, self._folder, self._filename, known=known, here=here) as plaintext:
                    if plaintext is None:
                        forget_begun(target)
                        return None
                    with (
                        storage(target, plaintext.size - plaintext.begin),
                        loaded_file(target, plaintext.etag, plaintext.begin) as file,
                    ):
                        self._copy(plaintext, file)
                    return plaintext.size
            except LoaderError as exc:
                self._waiting.before_retry(exc)

    def to_standard_output(self) -> None:
        """Load to standard output. After a cut the load continues with the same edition or not at all."""
        here: tuple[str, int] | None = None
        written = 0
        while True:
            try:
                with open_load(self._loader, self._folder, self._filename, here=here) as plaintext:
                    if sys.stdout is None:
                        raise click.UsageError("Standard output is closed.")
                    if plaintext is None or plaintext.begin != written:
                        break
                    try:
                        with storage(STANDARD_OUTPUT, plaintext.size - written):
                            self._copy(plaintext, sys.stdout.buffer)
                        return
                    finally:
                        written = plaintext.arrived
                        here = (plaintext.etag, written) if plaintext.etag is not None and written else None
            except CommandFault as exc:  # and no failure of the output, of which nobody knows what was written
                self._waiting.before_retry(exc)
        raise AnswerCut(f"The model has changed after {written} bytes of the former edition were written.")

    def _copy(self, plaintext: OpenLoad, file: BinaryIO) -> None:
        name = f"{self._folder}/{self._filename}".lstrip("/")
        label = f"continuing {name}" if plaintext.begin else f"loading {name}"
        with ProgressBar(label, plaintext.size - plaintext.begin) as advance:
            for piece in plaintext:
                file.write(piece)
                advance(len(piece))
                self._waiting.renew()
            file.flush()
