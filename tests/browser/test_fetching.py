"""What the page shows of a fetch, and how an operator starts and cancels one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import LoaderPage, assert_fit, rows
from tests.browser.conftest import Open
from tests.fetch.published import VERSION, Fetcher, hold, objects, release, write_objects
from tests.support.archives import APP, Packed
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import call, login
from tests.support.processes import free_port
from tests.support.range_sites import RangeSite, hasty_device, range_site
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import HASTE
from tests.support.unlocking import EMAIL, PASSWORD, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

# Slow enough that a test sees the bar, and that a cancel comes in the middle.
RATE = 100 * 1024


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RangeSite]:
    """A loader that is logged in at an API that can be slow, and that has a release of 8 MiB."""
    with range_site(tmp_path / "site", API_VERSION=VERSION) as running:
        for held in hold(running.api, tmp_path / "published", objects(release(tmp_path / "1.enc", 1))):
            held.rate = RATE
        yield running


def press(page: LoaderPage, name: str) -> None:
    page.page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.long
def test_a_fetch_that_is_cancelled_and_started_again(site: RangeSite, open_page: Open) -> None:
    page = open_page(site.url, reduced_motion="reduce")
    page.wait_for_text("fetch-note", "No release was fetched since the loader was started.")
    expect(page.at("fetch-run")).to_be_hidden()
    expect(page.at("fetch-cancel")).to_be_hidden()
    expect(page.at("fetch-actions")).to_contain_text("touches nothing that runs")
    press(page, "Fetch")
    page.wait_for_text("fetch-note", f"Release {VERSION} (serial 1): Downloading what this device lacks.")
    expect(page.at("fetch-form")).to_be_hidden()
    expect(page.at("fetch-title")).to_be_focused()
    page.page.reload()
    page.wait_for_text("fetch-note", "Downloading")
    expect(page.at("fetch-rate")).to_have_text(re.compile(r"[0-9.]+ [kM]B/s"))
    expect(page.at("fetch-eta")).to_have_text(re.compile(r"[0-9]+ s|a few seconds"))
    expect(page.at("fetch-amount")).to_have_text(re.compile(r"[0-9]+ [kM]B of 8 MB"))
    assert 0 < page.at("fetch-bar").evaluate("bar => bar.value / bar.max") < 1
    assert_fit(page, "fetching")

    press(page, "Cancel the fetch")
    page.wait_for_text("fetch-failure", "The fetch was interrupted because it was cancelled.")
    expect(page.at("fetch-failure")).to_contain_text("it goes on where it stopped")
    expect(page.at("fetch-failure")).to_contain_text("INTERRUPTED")
    expect(page.at("fetch-note")).to_have_text("The last fetch ended early. What has come stays for the next one.")
    assert any("because it was cancelled" in text for text in page.page.locator("#announcer").all_inner_texts())
    assert_fit(page, "fetch-cancelled")

    for held in site.api.objects.values():
        held.rate = None
    press(page, "Fetch")
    page.wait_for_text("fetch-note", f"Release {VERSION} (serial 1) is on this device.")
    expect(page.at("fetch-failure")).to_be_hidden()
    # Without an engine nobody knows whether an unlock has work.
    expect(page.at("fetch-ready")).to_be_hidden()


def test_a_version_and_what_is_wrong_with_it(site: RangeSite, open_page: Open) -> None:
    page = open_page(site.url)
    page.at("fetch-version").fill("no tag")
    press(page, "Fetch")
    page.wait_for_text("fetch-refusal", "VALIDATION_FAILED")
    page.at("fetch-version").fill(" 1.5 ")
    page.at("fetch-version").press("Enter")
    page.wait_for_text("fetch-failure", "RESOURCE_NOT_FOUND")
    expect(page.at("fetch-failure")).to_contain_text("publisher")
    expect(page.at("fetch-refusal")).to_be_hidden()
    assert Fetcher(site.url, site.models).status()["version"] == "1.5"


@pytest.mark.long
def test_a_restart_during_a_fetch_is_told(tmp_path: Path, open_page: Open) -> None:
    env = {"API_VERSION": VERSION, "LOADER_BIND": f"127.0.0.1:{free_port()}"}
    (tmp_path / "upstream").mkdir()
    with RangeUpstream(tmp_path / "upstream") as api:
        for held in hold(api, tmp_path / "published", objects(release(tmp_path / "1.enc", 1))):
            held.rate = RATE
        with hasty_device(tmp_path / "site", api.url, HASTE, **env) as first:
            assert login(first.url).status == 200
            page = open_page(first.url)
            press(page, "Fetch")
            page.wait_for_text("fetch-note", "Downloading")
            first.loader.process.kill_tree()
            page.wait_for_badge("no answer")
        with hasty_device(tmp_path / "site", api.url, HASTE, **env):
            page.look_again()
            page.wait_for_text("fetch-failure", "The loader was restarted during the fetch.")
            page.wait_for_text("fetch-failure", "Log in and start the fetch again; what has come stays.")
            page.wait_for_text("fetch-note", "Log in to fetch a release")


def test_without_a_login_the_card_asks_for_one(site: RangeSite, open_page: Open) -> None:
    page = open_page(site.url)
    expect(page.at("fetch-form")).to_be_visible()
    assert call(site.url, "POST", "/lock").status == 200
    # The page does not know it yet.
    press(page, "Fetch")
    page.wait_for_text("fetch-refusal", "NOT_LOGGED_IN")
    page.look_again()
    page.wait_for_text("fetch-note", "Log in to fetch a release")
    expect(page.at("fetch-form")).to_be_hidden()


def test_a_fetched_release_lies_ready_to_be_unlocked(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, open_page: Open
) -> None:
    write_objects(unlock_device.api.data_dir / "resources", objects(packed.path, "1.4"))
    page = open_page(unlock_device.start(docker.host).loader.url, reduced_motion="reduce")
    page.wait_for_text("title", "No archive on this device")
    page.enter(PASSWORD, button="Log in", email=EMAIL)
    press(page, "Fetch")
    page.wait_for_text("fetch-ready", "Release 1.4")
    expect(page.at("fetch-ready")).to_contain_text("lies ready to be unlocked.")
    expect(page.at("version")).to_have_text("1.4")
    assert_fit(page, "fetched")
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("ready")
    page.wait_for_text("fetch-note", "is on this device.")
    expect(page.at("fetch-ready")).to_be_hidden()
    page.wait_for_text("releases", "proven")
    proven = f"1.4 (serial {packed.head.release.serial}): proven"
    assert rows(page, "releases") == [proven]
    page.wait_for_text("releases", "unlocked last, its images are in the engine")
    page.page.get_by_text("Releases at the resource API", exact=True).click()
    page.wait_for_text("published-rows", "1.4proven here")

    seal(unlock_device.archive, [HandmadeImage(APP)], serial=packed.head.release.serial + 1)
    page.page.reload()
    page.wait_for_text("releases", "not proven")
    assert rows(page, "releases") == [proven, f"1.4 (serial {packed.head.release.serial + 1}): not proven"]
    page.wait_for_text("releases", "in the archive")
