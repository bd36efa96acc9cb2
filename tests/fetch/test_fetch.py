"""A fetch over the real API: what comes, what stays, and what a caller is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.fetch.state import STEPS
from loader.install import install
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark, note_ready
from tests.fetch.published import VERSION, Fetcher, objects, release, write_objects
from tests.packing.packs import unwatched
from tests.support.http_calls import call, login
from tests.support.sites import Site, real_site
from tests.support.thin_archives import index_of, thin_of


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Use `site`."""
    with real_site(tmp_path_factory.mktemp("site"), API_VERSION=VERSION) as running:
        yield running


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """A loader that is logged in at a reference API without releases, on a device without an archive."""
    yield shared_site
    fetcher = fetcher_of(shared_site)
    fetcher.cancel()
    fetcher.wait()
    fetcher.place.unlink(missing_ok=True)
    (shared_site.models / MARK_NAME).unlink(missing_ok=True)
    for path in (*fetcher.blobs.glob("*"), *shared_site.stored("images").glob("*")):
        path.unlink()
    shared_site.api.forget_requests()


@pytest.fixture
def fetcher(site: Site) -> Fetcher:
    return fetcher_of(site)


def fetcher_of(site: Site) -> Fetcher:
    return Fetcher(site.url, site.models.parent / "images.enc")


def publish(site: Site, archive: Path, version: str = VERSION) -> None:
    write_objects(site.api.data_dir / "resources", objects(archive, version))


def requested(site: Site) -> list[str]:
    return [request.path.removeprefix("/resources/") for request in site.api.requests("GET")]


def test_a_release_comes_whole(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    new = release(tmp_path / "1.enc", 1)
    publish(site, new)
    lines = len(site.audit_lines("fetch"))
    assert fetcher.start().json() == {"state": "checking", "version": VERSION}
    report = fetcher.wait()
    assert (report["state"], report["error"], report["percent"]) == ("fetched", None, 100)
    assert report["release"]["serial"] == 1
    assert list(report["duration_seconds"]) == list(STEPS)
    size = sum(len(data) for path, data in objects(new).items() if path.endswith(".blob"))
    assert report["bytes_done"] == report["bytes_total"] == size
    fetcher.require(new)
    line = site.next_audit_line("fetch", lines)
    assert (line["outcome"], line["code"], line["file"]) == ("ok", None, f"images/{VERSION}.head")
    assert line["bytes"] == size
    assert sorted(requested(site)) == sorted(objects(new))


def test_an_update_brings_only_the_changed_blobs(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    old, new = release(tmp_path / "1.enc", 1), release(tmp_path / "2.enc", 2)
    publish(site, old)
    fetcher.fetch()
    site.api.forget_requests()
    publish(site, new)
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(new)
    changed = objects(new).keys() - objects(old).keys()
    assert sorted(requested(site)) == sorted({*changed, f"images/{VERSION}.head"})


@pytest.mark.parametrize("kind", ["full", "thin"])
def test_blobs_of_an_installed_archive_are_kept(site: Site, fetcher: Fetcher, tmp_path: Path, kind: str) -> None:
    old, older, new = (release(tmp_path / f"{number}.enc", number) for number in (1, 0, 2))
    install(older, fetcher.place, VERSION, unwatched)
    carried = tmp_path / "carried.enc"
    carried.write_bytes(thin_of(old, older) if kind == "thin" else old.read_bytes())
    install(carried, fetcher.place, VERSION, unwatched)
    publish(site, new)
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(new)
    assert set(requested(site)) == {*(objects(new).keys() - objects(old).keys()), f"images/{VERSION}.head"}


def test_nothing_is_done_for_a_release_that_is_here(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    here = release(tmp_path / "1.enc", 1)
    install(here, fetcher.place, VERSION, unwatched)
    before = fetcher.place.stat()
    publish(site, here)
    assert fetcher.fetch()["state"] == "fetched"
    assert fetcher.place.stat() == before
    assert fetcher.listing() == []
    assert requested(site) == [f"images/{VERSION}.head"]


@pytest.mark.parametrize("place", ["file", "directory"])
def test_damage_here_is_repaired(site: Site, fetcher: Fetcher, tmp_path: Path, place: str) -> None:
    here = release(tmp_path / "1.enc", 1)
    publish(site, here)
    if place == "file":
        install(here, fetcher.place, VERSION, unwatched)
        damage(fetcher.place, -10)
    else:
        fetcher.fetch()
        damage(max(fetcher.blobs.iterdir(), key=lambda path: path.stat().st_size), 5)
    site.api.forget_requests()
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(here)
    assert len(requested(site)) == 2


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_release_that_is_not_published(fetcher: Fetcher) -> None:
    report = fetcher.fetch("none")
    assert (report["state"], report["code"], report["version"]) == ("error", "RESOURCE_NOT_FOUND", "none")
    assert "publisher" in report["hint"]


def test_a_release_under_the_name_of_another(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    publish(site, release(tmp_path / "1.enc", 1), "other")
    assert fetcher.fetch("other")["code"] == "VERSION_MISMATCH"
    assert requested(site) == ["images/other.head"]
    assert fetcher.listing() == []


def test_latest_is_whichever_release_is_published_as_such(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    newest = release(tmp_path / "1.enc", 1)
    publish(site, newest, "latest")
    report = fetcher.fetch("latest")
    assert (report["state"], report["release"]["version"]) == ("fetched", VERSION)
    fetcher.require(newest)


def test_an_older_release_is_refused_before_any_blob(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    older, newer = (release(tmp_path / f"{number}.enc", number) for number in (1, 2))
    note_ready(site.models, ReleaseMark(), KnownRelease.of(index_of(newer).stored), proven=True)
    publish(site, older)
    report = fetcher.fetch()
    assert report["code"] == "ROLLBACK"
    assert "serial 1" in report["error"]
    assert "serial 2" in report["error"]
    assert requested(site) == [f"images/{VERSION}.head"]
    publish(site, newer)
    assert fetcher.fetch()["state"] == "fetched"


@pytest.mark.parametrize("version", ["", "../x", "a/b", "x" * 129, "9\n", 7])
def test_a_version_is_a_tag(fetcher: Fetcher, version: str) -> None:
    assert fetcher.start(version).problem(422, "VALIDATION_FAILED")["errors"].keys() == {"version"}


def test_without_a_login_nothing_happens(site: Site, fetcher: Fetcher) -> None:
    lines = len(site.audit_lines("fetch"))
    assert call(site.url, "POST", "/lock").status == 200
    try:
        fetcher.start().problem(401, "NOT_LOGGED_IN")
    finally:
        assert login(site.url).status == 200
    assert requested(site) == []
    assert site.next_audit_line("fetch", lines)["code"] == "NOT_LOGGED_IN"
