"""GET /images/releases and GET /images/published; the fetch has tests of its own in tests/fetch."""

from __future__ import annotations

from pathlib import Path

from loader.binary_split import open_archive
from loader.unlock.remembered import remember
from tests.support.archives import APP
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import call
from tests.support.sites import BareSite, Site, bare_site


def test_the_releases_of_the_device_are_those_that_were_proven(lonely: BareSite, tmp_path: Path) -> None:
    nothing = {"present": None, "previous": None}
    assert call(lonely.url, "GET", "/images/releases").json() == nothing
    with bare_site(tmp_path) as site:
        heads = []
        for number in (1, 2):
            with open_archive(seal(tmp_path / f"{number}.enc", [HandmadeImage(APP)], serial=number)) as archive:
                remember(site.models, archive.index.stored)
                heads.append(archive.index.stored)
        found = call(site.url, "GET", "/images/releases").json()
        assert [found[which]["head"] for which in ("previous", "present")] == [head.digest for head in heads]
        assert (found["present"]["version"], found["present"]["serial"]) == (heads[1].head.release.version, 2)
        (site.models / "unlocked-manifest.json").write_text("damaged")
        assert call(site.url, "GET", "/images/releases").json() == nothing


def test_the_versions_that_the_api_has_are_listed(site: Site, lonely: BareSite) -> None:
    call(lonely.url, "GET", "/images/published").problem(401, "NOT_LOGGED_IN")
    assert call(site.url, "GET", "/images/published").json() == {"versions": []}
    stored = site.stored("images")
    stored.mkdir()
    for name in ("1.5.head", "latest.head", "1.4.head", "-odd.head", f"{'0' * 64}.blob"):
        (stored / name).write_bytes(b"not read")
    try:
        site.api.forget_requests()
        assert call(site.url, "GET", "/images/published").json() == {"versions": ["1.4", "1.5", "latest"]}
        assert len(site.api.requests("GET")) == 1
    finally:
        for path in stored.iterdir():
            path.unlink()
        stored.rmdir()


def test_a_page_of_another_origin_may_not_make_the_loader_ask(site: Site) -> None:
    evil = {"Origin": "http://evil.example"}
    call(site.url, "GET", "/images/published", None, evil).problem(403, "CROSS_ORIGIN")
    assert call(site.url, "GET", "/images/releases", None, evil).status == 200
