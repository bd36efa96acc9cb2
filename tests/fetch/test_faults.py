"""What the API, the disk and the device can do to a fetch: what is there stays, and the error says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.signatures import SigningKey
from loader.install import install
from tests.fetch.published import MIB, VERSION, Fetcher, hold, objects
from tests.packing.packs import contents, unwatched
from tests.support.flips import flipped
from tests.support.http_calls import login
from tests.support.publishers import ANNA, EVE, write_publishers
from tests.support.range_sites import RangeSite, range_site
from tests.support.small_disk import small_disk
from tests.support.thin_archives import index_of

HEAD = f"images/{VERSION}.head"


def blobs_of(published: dict[str, bytes]) -> list[str]:
    """Return the paths of the blobs, the largest first."""
    return sorted((path for path in published if path != HEAD), key=lambda path: -len(published[path]))


@pytest.mark.parametrize("where", [0, MIB, -1])
def test_a_blob_that_is_wrong_once_comes_again(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, where: int
) -> None:
    published = objects(first)
    hold(flaky.api, tmp_path / "published", published)
    largest = blobs_of(published)[0]
    held = flaky.api.objects[f"/resources/{largest}"]
    held.damage_once = {where % len(published[largest])}
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(first)
    assert held.sent == 2 * len(published[largest])


def test_a_blob_that_stays_wrong(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, second: Path) -> None:
    install(second, fetcher.place, VERSION, unwatched)
    published = objects(first)
    hold(flaky.api, tmp_path / "published", published)
    (changed,) = (path for path in blobs_of(published) if path not in objects(second) and len(published[path]) > MIB)
    held = flaky.api.objects[f"/resources/{changed}"]
    held.damage = {5}
    report = fetcher.fetch()
    assert (report["state"], report["code"], report["retryable"]) == ("error", "RESOURCE_CORRUPT", False)
    assert held.sent == 2 * len(published[changed])
    assert contents(fetcher.place) == contents(second)
    assert not [name for name in fetcher.listing() if name.startswith(Path(changed).stem)]
    held.damage = set()
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(first)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_blob_of_another_size(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, difference: int
) -> None:
    published = objects(first)
    largest = blobs_of(published)[0]
    published[largest] = published[largest][:-1] if difference < 0 else published[largest] + b"x"
    hold(flaky.api, tmp_path / "published", published)
    assert fetcher.fetch()["code"] == "RESOURCE_CORRUPT"
    assert not fetcher.place.exists()


def test_a_blob_that_is_not_there(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    published = objects(first)
    del published[blobs_of(published)[0]]
    hold(flaky.api, tmp_path / "published", published)
    report = fetcher.fetch()
    assert report["code"] == "RESOURCE_NOT_FOUND"
    assert "publish it again" in report["hint"]


def test_heads_that_are_none(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    index = index_of(first)
    sound = archive_start(index.stored, index.seals, [])
    broken = {
        "a blob": archive_start(index.stored, index.seals, index.head.blobs[:1]),
        "a full archive": first.read_bytes()[: len(sound) + 100],
        "too much": sound + bytes(2 * MIB),
        "nothing": b"",
        "another magic": flipped(sound, 0),
        "no JSON": flipped(sound, 12),
        "another byte": sound + b"x",
        "one byte less": sound[:-1],
        "half": sound[: len(sound) // 2],
    }
    for what, data in broken.items():
        hold(flaky.api, tmp_path / "published", {HEAD: data})
        report = fetcher.fetch()
        assert report["code"] in ("RESOURCE_CORRUPT", "API_PROTOCOL"), what
        assert report["release"] is None
        assert not fetcher.blobs.exists(), what


def test_an_api_that_is_away_for_a_while(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    for held in flaky.api.objects.values():
        held.statuses = [503, 500]
    assert fetcher.fetch()["state"] == "fetched"


def test_an_api_that_stays_away(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    for held in flaky.api.objects.values():
        held.statuses = [503] * 1000
    report = fetcher.fetch()
    assert (report["code"], report["retryable"]) == ("API_ERROR", True)


def test_only_releases_of_a_publisher_that_the_device_knows(tmp_path: Path, first: Path) -> None:
    listed = write_publishers(tmp_path / "publishers")
    with range_site(tmp_path / "site", API_VERSION=VERSION, PUBLISHER_KEYS=str(listed)) as site:
        fetcher = Fetcher(site.url, site.models.parent.parent / "images.enc")
        index = index_of(first)
        for signers in ((), (EVE,)):
            hold(site.api, tmp_path / "published", {**objects(first), HEAD: signed(index, *signers)})
            assert fetcher.fetch()["code"] == "UNTRUSTED_PUBLISHER"
            assert not fetcher.blobs.exists()
        assert {request.path for request in site.api.requests("GET")} == {f"/resources/{HEAD}"}
        hold(site.api, tmp_path / "published", {HEAD: signed(index, EVE, ANNA)})
        assert fetcher.fetch()["state"] == "fetched"
        fetcher.require(first)


def signed(index: ArchiveIndex, *keys: SigningKey) -> bytes:
    """Return the head with signatures."""
    seals = replace(index.seals, signatures=tuple(key.sign(index.stored) for key in keys))
    return archive_start(index.stored, seals, [])


def test_a_disk_that_is_too_small(tmp_path: Path, first: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        place = disk / "images.enc"
        with range_site(tmp_path / "site", API_VERSION=VERSION, IMAGES_PATH=str(place)) as site:
            hold(site.api, tmp_path / "published", objects(first))
            report = Fetcher(site.url, place).fetch()
            assert report["code"] == "DISK_SPACE"
            assert str(place) in report["error"]
            assert "needs" in report["error"]
            assert [request.path for request in site.api.requests("GET")] == [f"/resources/{HEAD}"]
            assert login(site.url).status == 200
