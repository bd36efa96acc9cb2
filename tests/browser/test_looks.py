"""The page in all its states, in light and dark, on a phone and on a laptop. CI keeps the screenshots."""

from __future__ import annotations

from playwright.sync_api import expect

from resource_api.accounts import Role
from tests.browser.browsing import assert_fit
from tests.browser.conftest import Open
from tests.support.archives import APP, DATABASE, Packed
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import call, post_json, upload
from tests.support.sites import Site
from tests.support.unlocking import EMAIL, PASSWORD, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

HELD_AFTER = 2 << 20


def store_models(device: UnlockDevice, url: str) -> None:
    """Let the API have models and releases, of which some are on the device."""
    publisher = {"email": "publisher@example.com", "password": "the password of a publisher"}
    device.api.add_user(publisher["email"], publisher["password"], Role.PUBLISHER)
    assert post_json(url, "/login", publisher).status == 200
    for folder, name, size in (("day", "detector.onnx", 8 << 20), ("night", "detector.onnx", 6 << 20)):
        assert upload(url, folder, name, bytes(size)).status == 200
        if folder == "day":
            assert call(url, "POST", "/cache/clear").status == 200
    published = device.api.data_dir / "resources" / "images"
    published.mkdir(exist_ok=True)
    for version in ("1.4", "1.5"):
        (published / f"{version}.head").write_bytes(b"not read")


def test_every_state_is_accessible_and_fits_every_window(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    unlock_device.put(packed.path)
    url = unlock_device.start(wire.host, DEVICE_NAME="device-7").loader.url
    page = open_page(url, reduced_motion="reduce")
    page.wait_for_badge("locked")
    assert_fit(page, "idle")

    page.enter("a wrong password", email=EMAIL)
    page.wait_for_badge("failed")
    assert_fit(page, "error")

    wire.hold_upload(after=HELD_AFTER)
    page.enter(PASSWORD, email=EMAIL)
    wire.wait_until_held()
    page.page.reload()  # A page that opens during a run must show the same state.
    page.wait_for_badge("unlocking")
    expect(page.at("steps").locator("[aria-current=step]")).to_contain_text("Load the images")
    assert_fit(page, "running")

    wire.release()
    page.wait_for_badge("ready")
    assert_fit(page, "ready")

    store_models(unlock_device, url)
    page.look_again()
    page.page.get_by_text("Models at the resource API", exact=True).click()
    page.page.get_by_text("Releases at the resource API", exact=True).click()
    page.wait_for_text("models-rows", "day/detector.onnx")
    page.wait_for_text("published-rows", "1.5")
    assert_fit(page, "listed")

    seal(
        unlock_device.archive,
        [HandmadeImage(name, settings={"Cmd": [name]}, architecture="s390x") for name in (APP, DATABASE)],
    )
    page.page.reload()
    page.wait_for_text("warnings", "s390x")
    assert_fit(page, "warning")


def test_the_checks_detect_planted_faults(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.wait_for_badge("idle")
    assert page.findings() == []
    page.page.evaluate("document.querySelector('label').remove()")
    page.page.evaluate("cache.querySelector('dt').style.color = '#eee'")
    assert {finding.partition(":")[0] for finding in page.findings()} == {"color-contrast", "label"}

    assert not page.scrolls_sideways()
    page.page.evaluate("title.style.width = '5000px'")
    assert page.scrolls_sideways()

    assert page.complaints == []
    page.page.evaluate("title.setAttribute('style', 'color: red')")
    page.page.evaluate("fetch('http://127.0.0.1:9/').catch(() => {})")
    page.page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    assert page.page.evaluate("window.ran") is None
    assert len([complaint for complaint in page.complaints if "Content Security Policy" in complaint]) >= 3
    page.complaints.clear()
    page.page.evaluate("console.error('seen')")
    assert page.complaints == ["seen"]
    page.complaints.clear()
    page.requests.append("http://127.0.0.1:9/")
    assert page.foreign_requests(page.url) == ["http://127.0.0.1:9/"]
    page.requests.clear()
