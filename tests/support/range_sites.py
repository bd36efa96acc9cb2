"""A loader under gunicorn whose upstream can misbehave while it serves large files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.http_calls import login
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import HASTE, ONE_SECOND, BareSite, bare_site


@dataclass(frozen=True)
class RangeSite(BareSite):
    """A device whose loader is logged in at `api`. Its timeouts for the API are one second instead of sixty."""

    api: RangeUpstream

    def reset(self) -> None:
        """Remove all objects and faults from the upstream, and all files from the cache."""
        self.api.reset()
        self.empty_cache()


@contextmanager
def range_site(directory: Path, **env: str) -> Iterator[RangeSite]:
    """Start an upstream that is healthy at first, and a loader that is logged in there."""
    (directory / "upstream").mkdir(parents=True)
    with RangeUpstream(directory / "upstream") as api, hasty_device(directory, api.url, HASTE, **env) as bare:
        assert login(bare.url).status == 200
        yield RangeSite(bare.loader, bare.models, api)


@contextmanager
def hasty_device(directory: Path, api_url: str, haste: Mapping[str, float], **env: str) -> Iterator[BareSite]:
    """Start a loader below `directory` with timeouts of one second for the API.

    `haste` maps the full names of constants of the loader to the values that this loader uses instead.
    """
    if "MODEL_CACHE_DIR" in env:
        Path(env["MODEL_CACHE_DIR"]).mkdir(exist_ok=True)
    hasty = {**ONE_SECOND, "IMAGES_PATH": str(directory / "images.enc"), "HASTE": json.dumps(haste)}
    with bare_site(directory, api_url, **{**hasty, **env}) as site:
        yield site
