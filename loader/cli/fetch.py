"""`azaion-loader images fetch`: the running loader brings a release from the resource API."""

from __future__ import annotations

from pathlib import Path

import click

from loader.cli.client import LoaderClient
from loader.cli.output import json_option, loader_option, print_result, size_text
from loader.cli.watch import require_ended_well, watch

REPORT = "/images/fetch"
# A fetch in the state `idle` is one that ended because the loader was restarted.
ENDS = ("fetched", "error", "idle")
GOES_ON = "The fetch goes on. To stop it: azaion-loader images fetch --cancel"


@click.command()
@click.argument("version", required=False)
@click.option("--from", "source", metavar="DIR|URL", help="Ask this directory or HTTP server for blobs before the API.")
@click.option("--wait", is_flag=True, help="Show the fetch until it ends.")
@click.option("--cancel", is_flag=True, help="Stop the fetch that runs. What has come stays for the next one.")
@loader_option
@json_option
def fetch(version: str | None, source: str | None, wait: bool, cancel: bool, loader: LoaderClient) -> None:
    """Bring the release VERSION, by default that of API_VERSION, from the resource API to IMAGES_PATH.

    Only the blobs that this device lacks are downloaded. A fetch that ended early goes on where it stopped. Loads of
    models go first. What runs is not touched: unlock afterwards.

    With --from a directory on the device, such as a stick, or a plain HTTP server is asked first. It has blobs named by
    their digests, as images.blobs of another device has them, and is believed only as far as the digests agree.

    The loader must be logged in. Without --wait the command only starts the fetch, or joins the one that runs.
    """
    if cancel and (version or source or wait):
        raise click.UsageError("--cancel stands alone.")
    if cancel:
        report = loader.post(f"{REPORT}/cancel")
        print_result(report, "no fetch runs" if report["state"] in ENDS else f"the fetch of {report['version']} stops")
        return
    asked = {"version": version, "from": _absolute(source) if source is not None else None}
    started = loader.post(REPORT, {name: value for name, value in asked.items() if value is not None})
    if not wait:
        print_result(started, f"release {started['version']}: {started['state']}")
        return
    report = watch(loader, REPORT, ENDS, GOES_ON)
    require_ended_well(report, "fetched", "fetch")
    print_result(report, f"release {report['version']}: fetched, {size_text(report['bytes_done'])}; unlock to use it")


def _absolute(source: str) -> str:
    """Return a source as the loader takes it: paths of the command are relative to its own directory."""
    return source if source.startswith(("http://", "https://")) else str(Path(source).absolute())
