"""`azaion-loader images publish` and `releases`: what the resource API has for devices to fetch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from loader.binary_split import open_archive
from loader.cli.api_login import api_option, email_option, logged_in
from loader.cli.archives import file_to_read, head_text
from loader.cli.output import ProgressBar, count_text, json_option, print_result, size_text
from loader.errors import ArchiveCorrupt, ArchiveNotFound, ResourceCorrupt
from loader.packing.publish import publish as publish_archive
from loader.published import published_head, published_objects, published_versions
from loader.references import LATEST
from loader.settings import Settings


@click.command()
@click.argument("archive", type=file_to_read)
@email_option
@api_option
@click.option("--version", "alias", type=click.Choice([LATEST]), help="Publish it as the newest release, too.")
@json_option
def publish(archive: Path, email: str, api: str | None, alias: str | None) -> None:
    """Publish the release in ARCHIVE at the resource API, from which devices can fetch it.

    Sends the blobs that the API lacks, then the head. After an interruption the next call sends the rest. Needs a
    publisher's account, and no key. Prompts for the password on a terminal, and reads it as one line of standard input
    elsewhere.

    A release that is not the published one of its version is refused unless its serial is higher.
    """
    settings = logged_in(email, api)
    with open_archive(archive) as opened:
        names = [opened.head.release.version, *([alias] if alias else [])]
        done = publish_archive(opened, list(dict.fromkeys(names)), ProgressBar, settings.api_patience)
    sent = sum(blob.stored_size for blob in done.sent)
    text = f"published: {count_text(len(done.sent), 'blob')} of {len(done.head.blobs)} sent, {size_text(sent)}"
    document = {"release": asdict(done.head.release), "blobs": len(done.sent), "bytes": sent}
    print_result(document, f"{head_text(done.head)}\n{text}")


@click.command()
@email_option
@api_option
@json_option
def releases(email: str, api: str | None) -> None:
    """List the releases at the resource API, and how much of each this device would fetch.

    What the archive at IMAGES_PATH has need not be fetched. Prompts for the password on a terminal, and reads it as one
    line of standard input elsewhere.
    """
    settings = logged_in(email, api)
    present = _present_blobs(settings)
    listed = [_described(name, present) for name in published_versions(published_objects())]
    print_result({"releases": listed}, "\n".join(map(_line, listed)) or "no release is published")


def _present_blobs(settings: Settings) -> frozenset[str]:
    """Return the piece digests of the blobs that this device has."""
    with suppress(ArchiveNotFound, ArchiveCorrupt), open_archive(settings.images_path) as archive:
        absent = set(archive.absent)
        return frozenset(blob.stored for blob in archive.head.blobs if blob not in absent)
    return frozenset()


def _described(name: str, present: frozenset[str]) -> dict[str, Any]:
    """Return one release as JSON. A damaged head must not hide the others, so it has the field `error` alone."""
    try:
        head = published_head(name).head
    except ResourceCorrupt as exc:
        return {"name": name, "error": str(exc)}
    size = sum(blob.stored_size for blob in head.blobs)
    to_fetch = sum(blob.stored_size for blob in head.blobs if blob.stored not in present)
    return {"name": name, **asdict(head.release), "bytes": size, "bytes_to_fetch": to_fetch}


def _line(release: dict[str, Any]) -> str:
    if "error" in release:
        return f"{release['name']}: {release['error']}"
    name, version = release["name"], release["version"]
    alias = "" if name == version else f" is release {version},"
    sizes = f"{size_text(release['bytes'])}, {size_text(release['bytes_to_fetch'])} to fetch"
    return f"{name}:{alias} serial {release['serial']}, made {release['created']}, {sizes}"
