"""`azaion-loader images back`: the previous release takes the place of the present one, and the other way round."""

from __future__ import annotations

from typing import Any

import click

from loader.cli.client import LoaderClient
from loader.cli.output import count_text, json_option, loader_option, print_result


@click.command()
@loader_option
@json_option
def back(loader: LoaderClient) -> None:
    """Go back to the release that was unlocked before the present one.

    The names of its images move at once, all or none, without login and network. The same command goes forward again.
    Containers go on with the images that they were made from: make them again afterwards. The archive at IMAGES_PATH
    stays, so that an unlock brings its release again.
    """
    document = loader.post("/unlock/back", patient=True)
    present, previous = (_release_text(document[which]) for which in ("present", "previous"))
    moved = count_text(len(document["names"]), "name")
    print_result(document, f"{present} has taken the place of {previous}: {moved} moved")


def _release_text(release: dict[str, Any]) -> str:
    return f"release {release['version']} (serial {release['serial']})"
