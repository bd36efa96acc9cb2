"""`python -m loader cache`: the encrypted parts of models on this device."""

from __future__ import annotations

from typing import Any

import click

from loader.cli.client import DeviceClient
from loader.cli.output import count_text, json_option, loader_option, show, size_text


@click.group()
def cache() -> None:
    """Encrypted parts of models on this device."""


@cache.command("list")
@loader_option
@json_option
def cache_list(loader: DeviceClient) -> None:
    """List the parts, least recently used first.

    Shows the begin of their digests, and times in UTC.
    """
    document = loader.get("/cache")
    limit = f" of {size_text(document['max_bytes'])}" if document["max_bytes"] else ""
    total = f"{count_text(len(document['entries']), 'part')}, {size_text(document['bytes'])}{limit}"
    show(document, "\n".join([*map(_entry_text, document["entries"]), total]))


@cache.command("verify")
@loader_option
@json_option
def cache_verify(loader: DeviceClient) -> None:
    """Read every whole part and remove those that are damaged.

    A load fetches a removed part anew. Takes as long as the disk needs to read everything, and a transfer slot. Ends
    with 0 also if something was damaged.
    """
    document = loader.post("/cache/verify", patient=True)
    damaged = [f"{sha256}: damaged, removed" for sha256 in document["damaged"]]
    read = f"{count_text(document['checked'], 'part')} read, {size_text(document['bytes'])}, {len(damaged)} damaged"
    show(document, "\n".join([*damaged, read]))


@cache.command("clear")
@loader_option
@json_option
def cache_clear(loader: DeviceClient) -> None:
    """Remove every part that is not in use."""
    document = loader.post("/cache/clear", patient=True)
    removed = f"{count_text(document['removed'], 'part')} removed, {size_text(document['bytes'])}"
    show(document, f"{removed}; {document['kept']} in use")


def _entry_text(entry: dict[str, Any]) -> str:
    kind = "whole" if entry["whole"] else "partial"
    in_use = ", in use" if entry["in_use"] else ""
    # Enough of both to tell parts apart; the whole is in the JSON.
    name, used = entry["sha256"][:16], entry["last_used"].partition(".")[0]
    return f"{name}  {size_text(entry['bytes']):>7}  {used}Z  {kind}{in_use}"
