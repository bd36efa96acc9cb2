"""`azaion-loader models`: the models at the resource API."""

from __future__ import annotations

from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import count_text, json_option, loader_option, print_result, size_text


@click.command()
@loader_option
@json_option
def models(loader: LoaderClient) -> None:
    """List the models at the resource API.

    Prints size, time of the upload, and whether the big part is on this device. A model that a load would refuse has
    the code of the error instead.
    """
    document = loader.get("/models", patient=True)
    entries = document["models"]
    total = f"{count_text(len(entries), 'model')}, {size_text(sum(entry['size'] or 0 for entry in entries))}"
    print_result(document, "\n".join([*map(_entry_text, entries), total]))


def _entry_text(entry: dict[str, Any]) -> str:
    name = f"{entry['folder']}/{entry['filename']}".lstrip("/")
    size = "?" if entry["size"] is None else size_text(entry["size"])
    state = entry["code"] or ("cached" if entry["cached"] else "not cached")
    return f"{name}  {size}  {entry['created'] or '?'}  {state}"
