"""Releases as an API has them, and devices that fetch them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loader.binary_split import open_archive
from loader.crypto.archive import archive_start
from loader.fetch.state import AT_REST
from tests.packing.packs import contents
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.http_calls import call, post_json
from tests.support.processes import poll
from tests.support.range_upstream import Held, RangeUpstream

VERSION = "9"
MIB = 1 << 20
FETCH_SECONDS = 60.0


def layer(seed: str, size: int) -> HandmadeLayer:
    """Return a layer of `size` bytes of noise."""
    noise = random.Random(seed).randbytes(size)  # noqa: S311  every run needs the same bytes
    return HandmadeLayer(noise, 1, seed)


def release(path: Path, number: int, unit: int = MIB) -> Path:
    """Seal release `number` of `VERSION`, of 8 units in 5 layers, of which one of one unit is another one in each."""
    base, middle, one = (layer(name, size * unit) for name, size in (("base", 3), ("middle", 2), ("one", 1)))
    images = [
        HandmadeImage(f"registry.local:5000/app:{VERSION}", (base, middle, one)),
        HandmadeImage(f"registry.local:5000/top:{VERSION}", (layer("two", unit), layer(f"top {number}", unit))),
    ]
    return seal(path, images, version=VERSION, serial=number)


def objects(archive: Path, version: str = VERSION) -> dict[str, bytes]:
    """Return what a publisher uploads for a full archive, by the paths at the API."""
    with open_archive(archive) as opened:
        data, index = archive.read_bytes(), opened.index
        found = {f"images/{version}.head": archive_start(index.stored, index.seals, [])}
        for blob in index.head.blobs:
            begin = index.offsets[blob.digest]
            found[f"images/{blob.stored}.blob"] = data[begin : begin + blob.stored_size]
    return found


def write_objects(resources: Path, published: dict[str, bytes]) -> None:
    """Put objects below `resources`, which is that directory of a reference API."""
    for path, data in published.items():
        target = resources / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def hold(api: RangeUpstream, directory: Path, published: dict[str, bytes]) -> list[Held]:
    """Let `api` serve the objects, which are written to `directory`, and return the blobs among them."""
    write_objects(directory, published)
    held = {path: api.hold(path, directory / path) for path in published}
    return [each for path, each in held.items() if path.endswith(".blob")]


class Fetcher:
    """Calls the fetch of the loader at `url`, whose archive is `place`."""

    def __init__(self, url: str, place: Path) -> None:
        self.url = url
        self.place = place

    @property
    def blobs(self) -> Path:
        """The directory of blobs."""
        return self.place.with_suffix(".blobs")

    def start(self, version: str | None = None, source: str | None = None) -> Any:
        """Start a fetch, and return the response."""
        asked = {"version": version, "from": source}
        return post_json(self.url, "/images/fetch", {name: value for name, value in asked.items() if value is not None})

    def cancel(self) -> Any:
        """Cancel the fetch, and return the response."""
        return call(self.url, "POST", "/images/fetch/cancel")

    def status(self) -> dict[str, Any]:
        """Return the report."""
        return dict(call(self.url, "GET", "/images/fetch").json())

    def wait(self, states: Iterable[str] = AT_REST) -> dict[str, Any]:
        """Wait until the state is one of `states`, and return the report."""
        wanted = set(map(str, states))
        poll(lambda: self.status()["state"] in wanted, FETCH_SECONDS, f"the fetch is {wanted}")
        return self.status()

    def fetch(self, version: str | None = None, source: str | None = None) -> dict[str, Any]:
        """Fetch to the end, and return the report."""
        reply = self.start(version, source)
        assert reply.status == 200, reply.body
        return self.wait()

    def require(self, archive: Path) -> None:
        """Fail unless the release of the full `archive` is in its place, with its blobs and nothing else."""
        assert contents(self.place) == contents(archive)
        with open_archive(self.place) as opened:
            assert self.listing() == sorted(blob.stored for blob in opened.index.absent)

    def listing(self) -> list[str]:
        """Return the names in the directory of blobs."""
        return sorted(path.name for path in self.blobs.iterdir()) if self.blobs.exists() else []
