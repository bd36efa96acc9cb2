"""The form: what it sends, what it keeps, and that it sends nothing without its script."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from loader.errors import ArchiveCorrupt, StorageError
from tests.browser.browsing import LoaderPage
from tests.browser.conftest import Open
from tests.support.archives import APP
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import EMAIL, PASSWORD, call, login
from tests.support.sites import Site, bare_site

UNSENT = "typed and never sent"


def focused(page: LoaderPage) -> str:
    """Return the id of the focused element, after a check that the element has a visible outline."""
    found, outline = page.page.evaluate(
        "() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert outline == "solid"
    return str(found)


def test_the_form_works_with_the_keyboard_alone(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.wait_for_badge("idle")
    keys = page.page.keyboard
    keys.press("Tab")
    assert focused(page) == "email"
    keys.type(EMAIL)
    keys.press("Tab")
    assert focused(page) == "password"
    keys.type(PASSWORD)
    keys.press("Tab")
    assert focused(page) == "login"
    keys.press("Space")
    page.wait_for_text("done", "Logged in.")
    assert page.spoken() == ["Logged in."]
    assert focused(page) == "login"
    assert [request.path for request in site.api.requests("POST")] == ["/login"]


def test_an_archive_that_goes_is_told_to_who_unlocks(site: Site, open_page: Open) -> None:
    archive = site.models.parent / "images.enc"
    seal(archive, [HandmadeImage(APP)])
    page = open_page(site.url)
    page.wait_for_text("title", "Unlock this device")
    keys = page.page.keyboard
    keys.press("Tab")
    keys.type(EMAIL)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Tab")
    assert focused(page) == "unlock"
    keys.press("Tab")
    assert focused(page) == "login"
    archive.unlink()
    keys.press("Shift+Tab")
    keys.press("Enter")
    page.wait_for_text("refusal", "There is no archive")
    page.wait_for_text("refusal", "ARCHIVE_NOT_FOUND")
    assert focused(page) == "password"
    assert "There is no archive" in page.spoken()[-1]
    assert site.api.requests("POST") == []


def test_nothing_is_sent_before_both_fields_are_filled(site: Site, open_page: Open) -> None:
    archive = site.models.parent / "images.enc"
    seal(archive, [HandmadeImage(APP)])
    page = open_page(site.url)
    page.wait_for_text("title", "Unlock this device")
    archive.unlink()
    for button in ("Unlock", "Log in only"):
        page.enter("", button, email=EMAIL)
        expect(page.at("password")).to_be_focused()
        page.enter(PASSWORD, button, email="")
        expect(page.at("email")).to_be_focused()
    assert not [url for url in page.requests if url.endswith(("/unlock", "/login"))]


def test_the_page_drops_the_password_after_a_login_a_refusal_and_leaving_the_page(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.enter("a wrong password", "Log in", email=EMAIL)
    page.wait_for_text("refusal", "LOGIN_REJECTED")
    expect(page.at("password")).to_have_value("")
    page.enter(PASSWORD, "Log in", email=EMAIL)
    page.wait_for_text("done", "Logged in.")
    expect(page.at("refusal")).to_be_hidden()
    assert "a wrong password" not in page.kept()
    assert PASSWORD not in page.kept()

    page.at("password").fill(UNSENT)
    assert UNSENT in page.kept()
    page.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert UNSENT not in page.kept()


def test_a_form_without_its_script_sends_nothing(site: Site, browser: Browser) -> None:
    with browser.new_context() as context:
        context.route("**/page.js", lambda route: route.abort())
        page = LoaderPage(context, site.url)
        expect(page.at("content")).to_be_hidden()
        page.page.evaluate("content.hidden = false")
        before = len(page.requests)
        page.enter(PASSWORD, email=EMAIL)
        page.enter(PASSWORD, "Log in only", email=EMAIL)
        page.at("password").press("Enter")
        # The content security policy must stop the form even if a browser does not know its method or a script has
        # changed it. The fields have no names, so that even a form that is sent would not hold the password.
        for method in ("get", "post"):
            page.page.evaluate(f"form.method = '{method}'; form.submit()")
        page.page.evaluate("new Promise(requestAnimationFrame)")
        assert page.requests[before:] == []
        assert page.page.url == f"{site.url}/"
        assert page.page.evaluate("[...new FormData(form)].length") == 0


def test_without_javascript_the_page_says_so_and_shows_no_form(site: Site, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site.url}/")
        expect(page.locator("noscript p")).to_be_visible()
        expect(page.locator("noscript p")).to_contain_text("This page needs JavaScript.")
        expect(page.locator("form:visible")).to_have_count(0)
        expect(page.locator("#starting")).to_be_hidden()


def test_the_page_reports_a_login_without_a_response(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.page.route("**/login", lambda route: route.abort())
    page.enter(PASSWORD, "Log in", email=EMAIL)
    page.wait_for_text("refusal", "The loader does not respond.")
    expect(page.at("password")).to_have_value("")


def test_the_lock_button_ends_the_login(site: Site, open_page: Open) -> None:
    page = open_page(site.url, viewport={"width": 320, "height": 720})
    page.enter(PASSWORD, "Log in")
    page.wait_for_text("done", "Logged in.")
    page.wait_for_text("cache-note", "Somebody is logged in")
    assert page.findings() == []
    page.screenshot("logged-in-light-320")
    page.page.get_by_role("button", name="Lock", exact=True).click()
    page.wait_for_text("cache-note", "Nobody is logged in")
    expect(page.at("lock-part")).to_be_hidden()
    assert page.spoken()[-1] == "Locked."
    assert page.page.evaluate("document.activeElement.id") == "title"
    assert call(site.url, "GET", "/status").json()["authenticated"] is False
    assert login(site.url).status == 200


def test_the_page_reports_a_failed_lock(site: Site, open_page: Open) -> None:
    assert login(site.url).status == 200
    page = open_page(site.url)
    page.wait_for_text("lock-part", "Lock")
    page.page.route("**/lock", lambda route: route.abort())
    page.page.get_by_role("button", name="Lock", exact=True).click()
    page.wait_for_text("lock-refusal", "The loader is not locked.")
    assert call(site.url, "GET", "/status").json()["authenticated"] is True


def test_a_refusal_says_what_to_do(site: Site, open_page: Open) -> None:
    assert login(site.url).status == 200
    page = open_page(site.url)
    page.wait_for_text("lock-part", "Lock")
    refusal = {"detail": "It failed.", "code": "INTERNAL", "hint": "Do this."}
    page.page.route("**/lock", lambda route: route.fulfill(status=500, json=refusal))
    page.page.get_by_role("button", name="Lock", exact=True).click()
    page.wait_for_text("lock-refusal", "The loader is not locked. Do this.")
    assert page.spoken()[-1] == "It failed. The loader is not locked. Do this."


def test_a_login_that_does_not_reach_the_api_says_why_and_what_to_do(open_page: Open, tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.touch()
    with bare_site(tmp_path / "loader", MODEL_CACHE_DIR=f"{blocking}/models") as running:
        (tmp_path / "loader" / "device" / "images.enc").write_bytes(b"no archive")
        page = open_page(running.url)
        page.enter(PASSWORD, "Log in only", email=EMAIL)
        page.wait_for_text("refusal", "The resource API at 127.0.0.1 port 9 could not be reached: Connection refused.")
        page.wait_for_text("refusal", "Check that the server runs at the host and port in RESOURCE_API_URL")
        assert "Connection refused. Check that the server runs" in page.spoken()[-1]
        page.wait_for_text("plan-note", ArchiveCorrupt.hint)
        page.wait_for_text("cache-note", StorageError.hint)


def test_a_problem_without_a_hint_shows_none(site: Site, open_page: Open) -> None:
    """A proxy in front of the loader may send such a document."""
    page = open_page(site.url)
    page.page.route("**/login", lambda route: route.fulfill(status=502, json={"detail": "It failed.", "code": "X"}))
    page.enter(PASSWORD, "Log in")
    page.wait_for_text("refusal", "It failed.")
    assert "undefined" not in page.at("refusal").inner_text()
