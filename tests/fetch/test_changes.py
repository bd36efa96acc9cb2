"""A release that changes at the API during a fetch: the old one, the new one, or an error and a later success."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loader.install import install
from resource_api.accounts import Role
from tests.fetch.published import MIB, VERSION, Fetcher, objects, release, write_objects
from tests.fetch.test_resume import wait_for
from tests.packing.packs import contents, unwatched
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.narrow_line import NarrowLine
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import ONE_SECOND, bare_site

pytestmark = pytest.mark.long

HEAD = f"images/{VERSION}.head"
# No blob of 1 MiB is whole when the fetch as a whole has brought half a MiB.
RATE = MIB
BEFORE_THE_CHANGE = MIB // 2


class Changing:
    """A device with release 0, whose line to the API is cut as soon as the release there has changed."""

    def __init__(self, api: ResourceApiServer, line: NarrowLine, fetcher: Fetcher) -> None:
        self.resources = api.data_dir / "resources"
        self.line = line
        self.fetcher = fetcher

    def publish(self, published: dict[str, bytes]) -> None:
        """Replace objects one by one, as the API does."""
        for path, data in published.items():
            write_objects(self.resources, {f"{path}.new": data})
            (self.resources / f"{path}.new").replace(self.resources / path)

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.resources / path).unlink()

    def fetch(self, change: Callable[[], None]) -> dict[str, object]:
        """Fetch, let `change` happen in the middle, and return the report."""
        self.line.rate = RATE
        assert self.fetcher.start().status == 200
        wait_for(self.fetcher, BEFORE_THE_CHANGE)
        change()
        self.line.rate = None
        self.line.cut()
        return self.fetcher.wait()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Releases 0 to 2, which differ in one layer of 1 MiB."""
    directory = tmp_path_factory.mktemp("releases")
    return [release(directory / f"{number}.enc", number) for number in range(3)]


@pytest.fixture
def changing(tmp_path: Path, releases: list[Path]) -> Iterator[Changing]:
    """A device with an older release of other content, whose API has release 1."""
    with ExitStack() as running:
        (tmp_path / "api").mkdir()
        api = running.enter_context(ResourceApiServer(tmp_path / "api"))
        api.add_user(EMAIL, PASSWORD, Role.READER)
        line = running.enter_context(NarrowLine(api.url))
        place = tmp_path / "device" / "images.enc"
        settings = {**ONE_SECOND, "IMAGES_PATH": str(place), "API_VERSION": VERSION}
        site = running.enter_context(bare_site(place.parent, line.url, **settings))
        assert login(site.url).status == 200
        changing = Changing(api, line, Fetcher(site.url, place))
        changing.publish(objects(releases[1]))
        yield changing


def only_in(archive: Path, other: Path) -> dict[str, bytes]:
    """Return the blobs that the other release does not have."""
    theirs = objects(other)
    return {path: data for path, data in objects(archive).items() if path not in theirs}


def test_a_new_head(changing: Changing, releases: list[Path]) -> None:
    """The former blobs are still there, so that the fetch ends with the former release; the next one brings the new."""
    first, second = releases[1:]
    assert changing.fetch(lambda: changing.publish(objects(second)))["state"] == "fetched"
    changing.fetcher.require(first)
    assert changing.fetcher.fetch()["state"] == "fetched"
    changing.fetcher.require(second)


def test_a_new_head_and_the_former_blobs_are_gone(changing: Changing, releases: list[Path]) -> None:
    first, second = releases[1:]

    def replace() -> None:
        changing.publish(objects(second))
        changing.remove(*only_in(first, second))

    assert changing.fetch(replace)["state"] == "fetched"
    changing.fetcher.require(second)


def test_a_head_that_is_gone(changing: Changing, releases: list[Path]) -> None:
    assert changing.fetch(lambda: changing.remove(HEAD))["state"] == "fetched"
    changing.fetcher.require(releases[1])


def test_blobs_that_are_gone(changing: Changing, releases: list[Path]) -> None:
    install(releases[0], changing.fetcher.place, VERSION, unwatched)
    gone = only_in(releases[1], releases[0])
    report = changing.fetch(lambda: changing.remove(*gone))
    assert (report["code"], report["retryable"]) == ("RESOURCE_NOT_FOUND", False)
    assert contents(changing.fetcher.place) == contents(releases[0])
    changing.publish(gone)
    assert changing.fetcher.fetch()["state"] == "fetched"
    changing.fetcher.require(releases[1])


@pytest.mark.parametrize("other", ["another blob", "shorter", "longer", "empty"])
def test_a_blob_that_is_replaced(changing: Changing, releases: list[Path], other: str) -> None:
    install(releases[0], changing.fetcher.place, VERSION, unwatched)
    published = only_in(releases[1], releases[0])
    path = max(published, key=lambda name: len(published[name]))
    data = published[path]
    replaced = {"another blob": bytes(len(data)), "shorter": data[:-1], "longer": data + b"x", "empty": b""}[other]
    report = changing.fetch(lambda: changing.publish({path: replaced}))
    assert (report["code"], report["retryable"]) == ("RESOURCE_CORRUPT", False)
    assert contents(changing.fetcher.place) == contents(releases[0])
    changing.publish({path: data})
    assert changing.fetcher.fetch()["state"] == "fetched"
    changing.fetcher.require(releases[1])
