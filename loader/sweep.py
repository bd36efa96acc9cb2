"""Sweeps the resource API: removes the big objects of models that no small object has named for some days.

An upload sends the big object first, so one that nobody names may belong to an upload that still runs. Its name is
random and never used again, so one that nobody names in two runs some days apart is left over. The state file has what
earlier runs found:

    {"api": "https://api.example", "found": {"day/detector.onnx.<object>.big": 1772366400}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loader.api_client import get_api_client
from loader.crypto.json_header import exactly, is_integer, require
from loader.crypto.model_parts import ResourceName, SmallPart
from loader.errors import CorruptCiphertext, ResourceNotFound, ValidationFailed
from loader.files import read_small, storage, write_whole

MAX_STATE_SIZE = 64 << 20
_BIG = re.compile(r"(?P<path>.+)\.[0-9a-f]{32}\.big")


@dataclass(frozen=True)
class Swept:
    """The result of a run: which objects it removed and which wait for a later run, with their sizes in bytes.

    `unreadable` are the small objects that could not be parsed, whose big objects stay.
    """

    removed: dict[str, int]
    waiting: dict[str, int]
    unreadable: list[str]


def sweep(state: Path, api_url: str, min_age: float, now: float) -> Swept:
    """Remove what was found at least `min_age` seconds before `now`, and note what is found for the first time.

    `now` is in seconds since the epoch. `state` is the state file; without one this is the first run. Raises
    ValidationFailed if it is not that of `api_url`, StorageError, NotPermitted and what the client of the API raises.
    """
    earlier = _read(state, api_url)
    objects = get_api_client().list_objects("")
    left_over, unreadable = _left_over(objects)
    found = {path: min(earlier.get(path, now), now) for path in left_over}
    # Write before anything is removed, because this is where an unusable disk or a wrong path shows.
    _write(state, api_url, found)
    old = [path for path, first in found.items() if now - first >= min_age and path in earlier]
    for path in old:
        get_api_client().delete_object(path)
        del found[path]
    _write(state, api_url, found)
    return Swept({path: objects[path] for path in old}, {path: objects[path] for path in found}, unreadable)


def _left_over(objects: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the big objects that no small one names, and the small objects that cannot be read."""
    named, unreadable, kept = set(), [], set()
    for path in objects:
        if (name := ResourceName.of_small(path)) is not None:
            try:
                part = SmallPart.from_bytes(get_api_client().small_object(path)).big
                named |= {name.big(part)} if part is not None else set()
            except ResourceNotFound:  # it was removed since the list was made
                continue
            except CorruptCiphertext:
                unreadable.append(path)
                kept.add(name.path)
    big = ((path, match["path"]) for path in objects if (match := _BIG.fullmatch(path)) is not None)
    return [path for path, model in big if path not in named and model not in kept], unreadable


def _read(state: Path, api_url: str) -> dict[str, float]:
    """Return what earlier runs found, and when each first did."""
    with storage(state, 0):
        try:
            data = read_small(state, MAX_STATE_SIZE)
        except FileNotFoundError:
            return {}
    try:
        document = json.loads(data)
        api, found = exactly(document, "api", "found")
        require(all(map(is_integer, found.values())), "found")
    except (ValueError, RecursionError, AttributeError, CorruptCiphertext) as exc:
        raise ValidationFailed(f"{state} is not the state file of a sweep.") from exc
    if api != api_url:
        raise ValidationFailed(f"{state} is the state file of the sweep of {api}, not of {api_url}.")
    return dict(found)


def _write(state: Path, api_url: str, found: Mapping[str, float]) -> None:
    with storage(state, 0):
        write_whole(state, json.dumps({"api": api_url, "found": {path: int(found[path]) for path in found}}).encode())
