"""What the page says is true: after a lock, a removed user and a restart, with a slow API, and without an archive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from loader.errors import LoginRejected, ResourceCorrupt
from loader.version import VERSION
from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from tests.browser.browsing import LoaderPage, assert_fit, rows
from tests.browser.conftest import Open
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import CREDENTIALS, call, load, login, post_json, upload
from tests.support.processes import free_port
from tests.support.sites import Site, bare_site, real_site

MIB = 1 << 20


@pytest.fixture(scope="module")
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with real_site(tmp_path_factory.mktemp("own"), DEVICE_NAME="device-7") as running:
        for folder, name, size in (("day", "big.onnx", 2 * MIB), ("", "tiny.onnx", 10)):
            assert upload(running.url, folder, name, bytes(size)).status == 200
        for version in ("1.4", "latest"):
            stored = running.stored(f"images/{version}.head")
            stored.parent.mkdir(exist_ok=True)
            stored.write_bytes(b"a head that nothing here reads")
        yield running


@pytest.fixture
def own(_own: Site) -> Site:
    """A site of this module without an archive and an engine: models, releases, a login, and an empty cache."""
    assert login(_own.url).status == 200
    assert call(_own.url, "POST", "/cache/clear").status == 200
    _own.api.forget_requests()
    return _own


def open_part(page: LoaderPage, name: str) -> None:
    page.page.get_by_text(name, exact=True).click()


def asked(site: Site) -> list[str]:
    """Return the paths that the loader has asked the API for."""
    return [request.path for request in site.api.requests("GET")]


def test_the_header_names_the_device_and_the_version(own: Site, site: Site, open_page: Open) -> None:
    page = open_page(own.url)
    page.wait_for_text("device", f"device-7 · loader {VERSION}")
    expect(page.page).to_have_title(re.compile("^idle .* device-7 .* Azaion Loader$"))
    open_page(site.url).wait_for_text("device", f"{os.uname().nodename} · loader {VERSION}")


def test_without_an_archive_nothing_says_unlock(own: Site, open_page: Open) -> None:
    page = open_page(own.url, reduced_motion="reduce")
    page.wait_for_text("title", "No archive on this device")
    page.wait_for_text("lead", "Logged in: services here can load models.")
    assert call(own.url, "POST", "/lock").status == 200
    page.look_again()
    page.wait_for_text("lead", "Not logged in: log in, so that services here can load models")
    assert "unlock" not in page.page.locator("body").inner_text().lower()
    page.at("email").fill(CREDENTIALS["email"])
    page.at("password").fill(CREDENTIALS["password"])
    page.page.keyboard.press("Enter")
    page.wait_for_text("done", "Logged in.")
    assert [request.path for request in own.api.requests("POST")] == ["/login"]


def test_models_are_listed_by_name_once_a_person_asks(own: Site, open_page: Open) -> None:
    page = open_page(own.url, reduced_motion="reduce")
    page.wait_for_text("cache-note", "Somebody is logged in")
    page.look_again()
    assert asked(own) == []
    open_part(page, "Models at the resource API")
    page.wait_for_text("models-rows", "day/big.onnx")
    assert rows(page, "models-rows") == ["day/big.onnx: not cached", "tiny.onnx: cached"]
    expect(page.at("models-rows").locator(".detail").first).to_contain_text("2 MB · made ")
    expect(page.at("models-note")).to_be_hidden()
    assert_fit(page, "models")
    once = asked(own)
    assert load(own.url, "day", "big.onnx").status == 200
    loaded = asked(own)
    page.look_again()
    expect(page.at("models-rows").locator(".tag").first).to_have_text("cached")
    assert call(own.url, "POST", "/cache/clear").json()["removed"] == 1
    page.look_again()
    expect(page.at("models-rows").locator(".tag").first).to_have_text("not cached")
    assert once.count("/resources") == 1
    assert asked(own) == loaded, "the polls ask the API for nothing"


def test_a_model_that_cannot_be_loaded_says_what_to_do(own: Site, open_page: Open) -> None:
    own.stored("day/damaged.small").write_bytes(b"AZSMALL2 and no more")
    try:
        page = open_page(own.url)
        open_part(page, "Models at the resource API")
        page.wait_for_text("models-rows", "day/damagedrefused")
        page.wait_for_text("models-rows", f"A load is refused: RESOURCE_CORRUPT. {ResourceCorrupt.hint}")
    finally:
        own.stored("day/damaged.small").unlink()


def test_published_releases_are_listed_once_a_person_asks(own: Site, open_page: Open) -> None:
    page = open_page(own.url)
    page.wait_for_text("releases-note", "No release is known on this device.")
    assert asked(own) == []
    open_part(page, "Releases at the resource API")
    page.wait_for_text("published-rows", "1.4")
    assert rows(page, "published-rows") == ["1.4: available", "latest: available"]
    assert len(asked(own)) == 1


def test_after_a_lock_the_page_says_that_nobody_is_logged_in(own: Site, open_page: Open) -> None:
    page = open_page(own.url)
    open_part(page, "Models at the resource API")
    page.wait_for_text("models-rows", "day/big.onnx")
    page.enter(CREDENTIALS["password"], "Log in")
    page.wait_for_text("done", "Logged in.")
    page.look_again()
    assert call(own.url, "POST", "/lock").status == 200
    page.look_again()
    page.wait_for_text("cache-note", "Nobody is logged in: services here cannot load models. A lock")
    page.wait_for_text("models-note", "Log in to see them.")
    expect(page.at("models-rows").locator("li")).to_have_count(0)
    expect(page.at("done")).to_be_hidden()
    expect(page.at("ended")).to_be_hidden()
    page.enter(CREDENTIALS["password"], "Log in")
    page.wait_for_text("models-rows", "day/big.onnx")


@pytest.mark.long
def test_a_removed_user_is_told_at_the_next_use(own: Site, open_page: Open) -> None:
    gone = {"email": "gone@example.com", "password": "the password of a user who goes"}
    own.api.add_user(gone["email"], gone["password"], Role.READER)
    assert post_json(own.url, "/login", gone).status == 200
    page = open_page(own.url, reduced_motion="reduce")
    page.wait_for_text("cache-note", "Somebody is logged in")
    Users(DataDirectory(own.api.data_dir)).disable(gone["email"])
    open_part(page, "Models at the resource API")
    page.wait_for_text("ended", "The login has ended. The resource API rejected")
    page.wait_for_text("ended", LoginRejected.hint)
    page.wait_for_text("ended", "LOGIN_REJECTED")
    page.wait_for_text("cache-note", "Nobody is logged in")
    assert_fit(page, "removed-user")
    page.enter(CREDENTIALS["password"], "Log in")
    page.wait_for_text("cache-note", "Somebody is logged in")
    expect(page.at("ended")).to_be_hidden()


@pytest.mark.long
def test_after_a_restart_the_page_says_what_ended(open_page: Open, own: Site, tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    with bare_site(tmp_path, own.api.url, LOADER_BIND=bind) as first:
        assert login(first.url).status == 200
        page = open_page(first.url)
        page.wait_for_text("cache-note", "Somebody is logged in")
    page.look_again()
    page.wait_for_text("unreachable", "azaion-loader ready")
    with bare_site(tmp_path, own.api.url, LOADER_BIND=bind):
        page.look_again()
        page.wait_for_text("cache-note", "Nobody is logged in")
        page.wait_for_text("cache-note", "A lock and a restart of the loader end a login.")
        page.wait_for_text("last", "Loginok")
        expect(page.at("renewed")).to_be_hidden()
        # Another version of the loader is not at hand, so that its answer is changed on the way.
        newer = {**call(first.url, "GET", "/status").json(), "version": "9.9"}
        page.page.route(f"{first.url}/status", lambda route: route.fulfill(json=newer))
        page.look_again()
        page.wait_for_text("renewed", "The loader is version 9.9 now. Load this page again")


def test_a_slow_api_is_named(open_page: Open, tmp_path: Path) -> None:
    with FaultyApi() as api, bare_site(tmp_path, api.url) as running:
        host = api.url.removeprefix("http://")
        page = open_page(running.url, reduced_motion="reduce")
        page.wait_for_badge("idle")
        api.answer("POST", "/login", Fault(silent=True, body=api.new_login()))
        api.answer("GET", "/resources", Fault(silent=True, body=b'{"resources": []}'))
        page.enter(CREDENTIALS["password"], "Log in")
        page.wait_for_text("waiting", f"Waiting for the resource API at {host}.")
        assert page.spoken()[-1] == f"Waiting for the resource API at {host}."
        api.resume()
        page.wait_for_text("done", "Logged in.")
        expect(page.at("waiting")).to_be_hidden()
        api.resumed.clear()
        for part, note in (("Models", "models"), ("Releases", "published")):
            open_part(page, f"{part} at the resource API")
            page.wait_for_text(f"{note}-note", f"Waiting for the resource API at {host}.")
        api.resume()
        page.wait_for_text("models-note", "The resource API has no models.")
        page.wait_for_text("published-note", "The resource API has no releases.")


def test_what_failed_last_says_what_to_do(own: Site, open_page: Open) -> None:
    wrong = {**CREDENTIALS, "password": "a wrong one of this module"}
    assert post_json(own.url, "/login", wrong).status == 401
    page = open_page(own.url)
    page.wait_for_text("last", "Loginfailed")
    page.wait_for_text("last", f"{LoginRejected.hint} (LOGIN_REJECTED)")
