"""Which blobs and heads stay after a fetch, and after a fetch that was killed."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from loader.blob_directory import FETCHED_NAME
from loader.fetch.release import forget_installed_head
from loader.unlock.remembered import remember
from tests.fetch.published import MIB, VERSION, Fetcher, hold, objects, release
from tests.packing.packs import contents
from tests.support.loader_server import run_python
from tests.support.range_sites import RangeSite, range_site
from tests.support.range_upstream import RangeUpstream
from tests.support.small_disk import fill, small_disk
from tests.support.thin_archives import index_of


def stored(*archives: Path) -> set[str]:
    """Return the names of the blobs of archives."""
    return {blob.stored for archive in archives for blob in index_of(archive).head.blobs}


def whole(fetcher: Fetcher) -> set[str]:
    """Return the names in the directory of blobs."""
    return set(fetcher.listing())


def fetch(site: RangeSite, fetcher: Fetcher, directory: Path, archive: Path) -> int:
    """Publish and fetch a release, and return how many bytes of blobs have come."""
    published = objects(archive)
    held = hold(site.api, directory / "published", published)
    assert fetcher.fetch()["state"] == "fetched"
    assert contents(fetcher.place) == contents(archive)
    return sum(each.sent for each in held)


@pytest.fixture
def releases(tmp_path: Path) -> list[Path]:
    """Four releases, each of which has one blob of 64 KiB of its own."""
    return [release(tmp_path / f"{number}.enc", number, 64 << 10) for number in range(1, 5)]


def test_blobs_of_the_two_releases_unlocked_last_stay(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, releases: list[Path]
) -> None:
    for archive in releases[:3]:
        fetch(flaky, fetcher, tmp_path, archive)
        remember(flaky.models, index_of(archive).stored)
    # When the third came, the first and the second were the two.
    assert whole(fetcher) == stored(*releases[:3])
    fetch(flaky, fetcher, tmp_path, releases[3])
    assert whole(fetcher) == stored(*releases[1:])
    # A way back needs no byte but the head; what was never unlocked goes.
    flaky.api.reset()
    assert fetch(flaky, fetcher, tmp_path, releases[2]) == 0
    assert whole(fetcher) == stored(*releases[1:3])


@pytest.mark.long
def test_former_blobs_go_for_a_release_that_has_no_room_beside_them(tmp_path: Path, first: Path, second: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * MIB) as disk:
        place = disk / "images.enc"
        with range_site(tmp_path / "site", API_VERSION=VERSION, IMAGES_PATH=str(place)) as site:
            fetcher = Fetcher(site.url, place)
            fetch(site, fetcher, tmp_path, first)
            remember(site.models, index_of(first).stored)
            fetch(site, fetcher, tmp_path, second)
            assert whole(fetcher) == stored(first, second)
            third = release(tmp_path / "3.enc", 3)
            fill(disk, leave=MIB // 2)
            fetch(site, fetcher, tmp_path, third)
            assert whole(fetcher) == stored(third)


@pytest.mark.long
def test_former_blobs_go_when_an_unlock_would_have_no_room(tmp_path: Path, first: Path, second: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * MIB) as disk:
        place = disk / "images.enc"
        with range_site(tmp_path / "site", API_VERSION=VERSION, IMAGES_PATH=str(place)) as site:
            fetcher = Fetcher(site.url, place)
            fetch(site, fetcher, tmp_path, first)
            remember(site.models, index_of(first).stored)
            fetch(site, fetcher, tmp_path, second)
            assert whole(fetcher) == stored(first, second)
            # Twice the images are 16 MiB and a little.
            fill(disk, leave=16 * MIB)
            fetch(site, fetcher, tmp_path, second)
            assert whole(fetcher) == stored(second)


@pytest.mark.long
def test_a_kill_before_the_head_goes(tmp_path: Path, releases: list[Path]) -> None:
    """The next start removes the head, and no blob of the archive."""
    device = tmp_path / "device"
    (device / "upstream").mkdir(parents=True)
    with RangeUpstream(device / "upstream") as api:
        hold(api, tmp_path / "published", objects(releases[0]))
        ended = run_python(tmp_path, "-m", "tests.fetch.killed_late", str(device), api.url, PYTHONPATH=".")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    head = device / "images.blobs" / FETCHED_NAME
    assert head.exists()
    shutil.rmtree(device / "upstream")
    with range_site(device) as site:
        assert not head.exists()
        fetcher = Fetcher(site.url, device / "images.enc")
        assert whole(fetcher) == stored(releases[0])
        assert contents(fetcher.place) == contents(releases[0])


def test_the_head_of_a_release_that_is_not_in_its_place_stays(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, releases: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    fetcher.blobs.mkdir()
    head = fetcher.blobs / FETCHED_NAME
    published = objects(releases[1])[f"images/{VERSION}.head"]
    forget_installed_head(fetcher.place)
    for kind in ("without an archive", "another archive", "a blob is gone"):
        if kind == "another archive":
            head.unlink()
            fetch(flaky, fetcher, tmp_path, releases[0])
        if kind == "a blob is gone":
            fetch(flaky, fetcher, tmp_path, releases[1])
            (fetcher.blobs / max(stored(releases[1]))).unlink()
        head.write_bytes(published)
        forget_installed_head(fetcher.place)
        assert head.exists(), kind
    assert caplog.messages == []
    head.write_bytes(b"damaged")
    forget_installed_head(fetcher.place)
    assert head.exists()
    assert "until the next one" in caplog.text
