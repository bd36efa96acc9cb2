"""`azaion-loader images prune`: the old versions of unlocked images, in the engine of this device."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from loader.cli.main import exit_code
from loader.cli.output import count_text, environment_settings, json_option, print_result, size_text
from loader.docker_engine import DockerEngine, Store
from loader.errors import EngineRejected
from loader.unlock.old_versions import OldName, OldVersions, find_old_versions, remove_old_versions


@click.command()
@click.option("--yes", is_flag=True, help="Remove them. Without it nothing changes.")
@click.option("--previous", is_flag=True, help="Also what `images back` needs to return to the previous release.")
@json_option
def prune(yes: bool, previous: bool) -> None:
    """Show which old versions of unlocked images the engine has, or remove them.

    Old is a tag of an image of the last unlock that neither that unlock, the archive at IMAGES_PATH nor EXPECTED_IMAGES
    names. What a container uses stays, and other images are not touched. The images of the previous release stay
    without --previous, also if an old tag of them goes. The command needs the environment variables of the loader:
    DOCKER_HOST, IMAGES_PATH, MODEL_CACHE_DIR, EXPECTED_IMAGES and API_VERSION.
    """
    settings = environment_settings()
    engine = DockerEngine(settings.engine_timeout)
    old = find_old_versions(settings, engine, with_previous=previous)
    refused = remove_old_versions(settings, engine, old) if yes else {}
    lines = _lines(old, refused, yes=yes)
    if old.unnamed:
        lines.append(_unnamed_text(old, engine))
    print_result(_document(old, refused, yes=yes), "\n".join(lines))
    if refused:
        sys.exit(exit_code(EngineRejected.code))


def _document(old: OldVersions, refused: Mapping[str, str], *, yes: bool) -> dict[str, Any]:
    def entry(name: OldName) -> dict[str, Any]:
        removed = yes and name in old.removable and name.reference not in refused
        return {
            "reference": name.reference,
            "id": name.image.id,
            "size": name.image.size,
            "used": name.is_used,
            "removed": removed,
            "refused": refused.get(name.reference),
        }

    unnamed = {"count": len(old.unnamed), "bytes": sum(image.size for image in old.unnamed)}
    names = [entry(name) for name in old.names]
    bytes_ = old.freed(refused)
    return {"keeps": old.kept, "previous": _previous(old), "images": names, "bytes": bytes_, "unnamed": unnamed}


def _previous(old: OldVersions) -> dict[str, Any] | None:
    """Return the previous release and how many of its images the engine has, None if it has none."""
    if old.previous is None or not old.pins:
        return None
    release = old.previous.head.release
    return {"version": release.version, "serial": release.serial, "images": len(old.pins)}


def _lines(old: OldVersions, refused: Mapping[str, str], *, yes: bool) -> list[str]:
    lines = [f"keeps {reference}" for reference in old.kept]
    if old.previous is not None and old.pins and not set(old.pins) <= set(old.names):
        pinned = count_text(len(old.pins), "image")
        lines.append(f"keeps {pinned} of {old.previous.title} for images back; --previous removes them too")
    lines += [f"  {_name_text(name, refused, yes=yes)}" for name in old.names]
    count, size = len(old.removable) - len(refused), size_text(old.freed(refused))
    if yes:
        lines.append(f"{count_text(count, 'name')} removed, at most {size}")
    else:
        lines.append(f"{count_text(count, 'name')} to remove, at most {size}; nothing is removed without --yes")
    return lines


def _name_text(name: OldName, refused: Mapping[str, str], *, yes: bool) -> str:
    text = f"{name.reference}  {size_text(name.image.size)}"
    if name.is_used:
        return f"{text}  stays: a container uses it"
    if name.reference in refused:
        return f"{text}  REFUSED: {refused[name.reference]}"
    return f"{text}  removed" if yes else text


def _unnamed_text(old: OldVersions, engine: DockerEngine) -> str:
    command = "podman" if engine.describe().store is Store.PODMAN else "docker"
    size = size_text(sum(image.size for image in old.unnamed))
    count = count_text(len(old.unnamed), "image")
    return f"{count} without a name, {size}, may be anybody's and stay; to remove them: {command} image prune"
