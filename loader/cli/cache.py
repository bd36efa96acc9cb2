"""`azaion-loader cache`: the encrypted parts of models on this device."""

from __future__ import annotations

from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import count_text, json_option, loader_option, print_result, size_text


@click.group()
def cache() -> None:
    """List, verify and remove encrypted parts of models."""


@cache.command("list")
@loader_option
@json_option
def list_parts(loader: LoaderClient) -> None:
    """List the parts, least recently used first.

    Prints the first 16 digits of the piece digest of each part, times in UTC, and the name of the model if it was
    loaded or listed since the start of the loader.
    """
    document = loader.get("/cache")
    limit = f" of {size_text(document['max_bytes'])}" if document["max_bytes"] else ""
    total = f"{count_text(len(document['entries']), 'part')}, {size_text(document['bytes'])}{limit}"
    print_result(document, "\n".join([*map(_entry_text, document["entries"]), total]))


@cache.command("verify")
@loader_option
@json_option
def verify_parts(loader: LoaderClient) -> None:
    """Read every complete part and remove damaged ones.

    The next load downloads a removed part again. The command reads all parts from the disk and takes a transfer slot
    meanwhile. The exit code is 0 even if parts were damaged.
    """
    document = loader.post("/cache/verify", patient=True)
    damaged = [f"{digest}: damaged, removed" for digest in document["damaged"]]
    read = f"{count_text(document['checked'], 'part')} read, {size_text(document['bytes'])}, {len(damaged)} damaged"
    print_result(document, "\n".join([*damaged, read]))


@cache.command("clear")
@loader_option
@json_option
def clear_parts(loader: LoaderClient) -> None:
    """Remove every part that is not in use."""
    document = loader.post("/cache/clear", patient=True)
    removed = f"{count_text(document['removed'], 'part')} removed, {size_text(document['bytes'])}"
    print_result(document, f"{removed}; {document['kept']} in use")


def _entry_text(entry: dict[str, Any]) -> str:
    kind = "whole" if entry["whole"] else "partial"
    in_use = ", in use" if entry["in_use"] else ""
    # 16 digits and whole seconds are enough to tell parts apart; the JSON document has everything.
    name, used = entry["digest"][:16], entry["last_used"].partition(".")[0]
    model = "" if entry["name"] is None else f"  {entry['name']}"
    return f"{name}  {size_text(entry['bytes']):>7}  {used}Z  {kind}{in_use}{model}"
