"""The page cancels an unlock, and says what a slow resource API keeps waiting."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import LoaderPage, assert_fit, rows
from tests.browser.conftest import Open
from tests.support.archives import Packed
from tests.support.engines import Engine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.faulty_wire import FaultyWire
from tests.support.http_calls import call, post_json
from tests.support.unlocking import EMAIL, PASSWORD, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

HELD_AFTER = 1 << 20


def cancel(page: LoaderPage) -> None:
    page.page.get_by_role("button", name="Cancel the unlock", exact=True).click()


@pytest.mark.long
def test_a_cancelled_unlock_keeps_the_login_and_can_be_started_again(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    wire.hold_upload(after=HELD_AFTER)
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host)
    page = open_page(operator.loader.url, reduced_motion="reduce")
    page.wait_for_badge("locked")
    expect(page.at("cancel-part")).to_be_hidden()
    page.enter(PASSWORD, email=EMAIL)
    wire.wait_until_held()
    page.wait_for_text("cancel-part", "What the unlock has changed in the engine is undone. The login stays.")
    cancel(page)
    wire.release()
    page.wait_for_badge("interrupted")
    page.wait_for_text("title", "The unlock was interrupted")
    page.wait_for_text("failure", "The unlock was interrupted because it was cancelled.")
    page.wait_for_text("failure", "Start the unlock again.")
    page.wait_for_text("cache-note", "Somebody is logged in")
    expect(page.at("cancel-part")).to_be_hidden()
    expect(page.at("title")).to_be_focused()
    assert "The unlock stops." in page.spoken()
    assert {row.partition(": ")[2] for row in rows(page, "images")} == {"not loaded yet"}
    assert_fit(page, "unlock-cancelled")
    wire.heal()
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("ready")


def test_an_unlock_that_waits_for_the_api_says_so_and_ends_at_once(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, open_page: Open
) -> None:
    unlock_device.put(packed.path)
    with FaultyApi() as api:
        api.answer("POST", "/login", Fault(silent=True, body=api.new_login()))
        page = open_page(unlock_device.start(docker.host, RESOURCE_API_URL=api.url).loader.url)
        page.enter(PASSWORD, email=EMAIL)
        host = api.url.removeprefix("http://")
        page.wait_for_text("activity", f"The loader waits for the resource API at {host}. No news for")
        cancel(page)
        page.wait_for_badge("interrupted")
        page.wait_for_text("cache-note", "Nobody is logged in")
        api.resume()


@pytest.mark.long
def test_a_cancel_that_is_refused_says_that_the_unlock_goes_on(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    wire.hold_upload(after=HELD_AFTER)
    unlock_device.put(packed.path)
    url = unlock_device.start(wire.host).loader.url
    assert post_json(url, "/unlock", {"email": EMAIL, "password": PASSWORD}).status == 200
    wire.wait_until_held()
    page = open_page(url)
    page.page.route("**/unlock/cancel", lambda route: route.abort())
    cancel(page)
    page.wait_for_text("cancel-refusal", "The loader does not respond.")
    page.wait_for_text("cancel-refusal", "The unlock goes on. Try again when it does.")
    assert call(url, "POST", "/unlock/cancel").json()["authenticated"] is True
    wire.release()
    page.wait_for_badge("interrupted")
