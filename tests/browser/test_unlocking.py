"""What an operator does on the page and what the page shows, with a real loader, API and Docker engine."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from loader.references import full_reference
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark
from tests.browser.browsing import rows
from tests.browser.conftest import Open
from tests.support.archives import APP, ARCHITECTURE, DATABASE, PLATFORM, Packed
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import CREATED, HandmadeImage, seal
from tests.support.images import remove_image
from tests.support.processes import free_port, poll
from tests.support.sites import NO_ENGINE
from tests.support.unlocking import EMAIL, PASSWORD, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

HELD_AFTER = 1 << 20
PLAN_SECONDS = 20.0
FULL_APP, FULL_DATABASE = full_reference(APP), full_reference(DATABASE)


def test_an_unlock_from_the_form_to_ready(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    wire.slow_upload(pause_seconds=0.07)  # The whole tar takes about four seconds.
    unlock_device.put(packed.path)
    page = open_page(unlock_device.start(wire.host).loader.url)
    page.wait_for_badge("locked")
    assert rows(page, "images") == [f"{FULL_APP}: not loaded yet", f"{FULL_DATABASE}: not loaded yet"]
    expect(page.at("version")).to_have_text("1.4")
    expect(page.at("to-send")).to_have_text("3 MB")
    expect(page.at("warnings")).to_be_hidden()
    assert rows(page, "places")
    assert all(row.endswith(": fits") for row in rows(page, "places"))

    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("unlocking")
    expect(page.at("form")).to_be_hidden()
    assert page.page.evaluate("document.getAnimations().length") > 0
    seen = page.watch_run(lambda: page.at("badge").inner_text() == "ready")
    bars = [bar for bar, _, _ in seen]
    assert bars == sorted(bars)
    assert len({bar for bar in bars if 0 < bar < 1}) >= 3
    assert any(re.fullmatch(r"\d+ [kM]?B/s", rate) and re.search(r"\d s|seconds", left) for _, rate, left in seen)

    page.wait_for_text("title", "Images are ready")
    page.wait_for_text("cache-note", "Somebody is logged in")
    assert rows(page, "images") == [f"{FULL_APP}: in the engine", f"{FULL_DATABASE}: in the engine"]
    assert page.at("steps").locator("[data-status=done]").count() == 5
    expect(page.at("form")).to_be_hidden()
    assert PASSWORD not in page.kept()
    assert len(unlock_device.api.requests("POST", "/login")) == 1
    # A screen reader announces the steps and the end but no percentages, because they change too often.
    assert page.spoken()[-1] == "Images are ready"
    assert len(page.spoken()) <= 6
    assert not any("%" in text for text in page.spoken())


def test_the_page_reports_a_wrong_password_and_accepts_the_right_one(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, open_page: Open
) -> None:
    unlock_device.put(packed.path)
    page = open_page(unlock_device.start(docker.host).loader.url)
    page.enter("a wrong password", email=EMAIL)
    page.wait_for_badge("failed")
    page.wait_for_text("failure", "Check the e-mail and the password, and try again.")
    page.wait_for_text("failure", "LOGIN_REJECTED")
    assert page.at("steps").locator("[data-status=failed]").inner_text().startswith("Log in")
    expect(page.at("password")).to_be_focused()
    expect(page.at("password")).to_have_value("")
    assert "a wrong password" not in page.kept()
    assert "Check the e-mail" in page.spoken()[-1]

    page.page.keyboard.type(PASSWORD)
    page.page.keyboard.press("Enter")
    page.wait_for_badge("ready")
    expect(page.at("failure")).to_be_hidden()


def test_the_page_reports_a_stopped_engine_before_and_after_a_run(
    unlock_device: UnlockDevice, packed: Packed, open_page: Open
) -> None:
    unlock_device.put(packed.path)
    page = open_page(unlock_device.start(NO_ENGINE).loader.url)
    page.wait_for_text("plan-note", "The Docker engine does not respond")
    assert rows(page, "images") == [f"{FULL_APP}: unknown", f"{FULL_DATABASE}: unknown"]
    expect(page.at("to-send")).to_have_text("at most 3 MB")
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("failed")
    assert page.at("steps").locator("[data-status=failed]").inner_text().startswith("Check")
    assert page.at("steps").locator("[data-status='to do']").count() == 4
    page.wait_for_text("failure", "Start the Docker engine, check DOCKER_HOST")
    page.wait_for_text("failure", "ENGINE_UNAVAILABLE")


def test_the_page_warns_of_images_for_another_architecture(
    unlock_device: UnlockDevice, docker: Engine, open_page: Open
) -> None:
    seal(
        unlock_device.archive,
        [HandmadeImage(name, settings={"Cmd": [name]}, architecture="s390x") for name in (APP, DATABASE)],
    )
    page = open_page(unlock_device.start(docker.host).loader.url)
    page.wait_for_text("warnings", f"{FULL_APP} is made for linux/s390x")
    assert page.at("warnings").locator("li").count() == 2


def test_the_page_says_that_an_older_release_is_refused(
    unlock_device: UnlockDevice, docker: Engine, open_page: Open
) -> None:
    newest = KnownRelease("1.5", 9, CREATED, "0" * 64)
    (unlock_device.remembered.parent / MARK_NAME).write_bytes(ReleaseMark(newest).to_bytes())
    seal(unlock_device.archive, [HandmadeImage(APP, architecture=ARCHITECTURE)], serial=8)
    page = open_page(unlock_device.start(docker.host).loader.url)
    page.wait_for_text("plan-failure", "An unlock would fail. The archive is release 1.4")
    page.wait_for_text("plan-failure", "unlock with --allow-older")
    page.wait_for_text("plan-failure", "ROLLBACK")
    page.wait_for_text("plan-failure", f"(serial 8, made {CREATED}), older than release 1.5 (serial 9, made {CREATED})")
    expect(page.at("to-send")).to_have_text("nothing, because the release is older")
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("failed")
    page.wait_for_text("failure", "ROLLBACK")


def test_an_image_without_a_time_is_shown_without_one(
    unlock_device: UnlockDevice, docker: Engine, open_page: Open
) -> None:
    seal(unlock_device.archive, [HandmadeImage(APP, created="", architecture=ARCHITECTURE)])
    page = open_page(unlock_device.start(docker.host).loader.url)
    page.wait_for_text("images", FULL_APP)
    expect(page.at("images").locator(".detail")).to_have_text(f"for {PLATFORM} · 6 kB")


def test_present_images_need_only_a_login_and_missing_images_an_unlock(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, open_page: Open
) -> None:
    docker.client.images.load(packed.plain_tar.read_bytes())
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host)
    page = open_page(operator.loader.url)
    page.wait_for_text("title", "All images are here")
    expect(page.at("to-send")).to_have_text("nothing")
    page.at("email").fill(EMAIL)
    page.at("password").fill(PASSWORD)
    page.page.keyboard.press("Enter")
    page.wait_for_text("cache-note", "Somebody is logged in")
    assert [request.path for request in unlock_device.api.requests("POST")] == ["/login"]
    assert operator.status().state == "idle"
    # The page moves the focus from the hidden form to the title, because a keyboard user must keep a place in the page.
    expect(page.at("form")).to_be_hidden()
    expect(page.at("title")).to_be_focused()

    operator.unlock()
    remove_image(docker, APP)
    unlock_device.put(packed.path)
    page.page.reload()
    page.wait_for_text("title", "Images are missing")
    assert rows(page, "images") == [f"{FULL_APP}: not loaded yet", f"{FULL_DATABASE}: in the engine"]
    expect(page.at("to-send")).to_have_text("3 MB, 1 of 2 images")
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("ready")
    assert rows(page, "images") == [f"{FULL_APP}: in the engine", f"{FULL_DATABASE}: in the engine"]

    # The ticks of the run that loaded them say nothing true any more.
    expect(page.at("steps")).to_be_visible()
    remove_image(docker, APP)
    # Requests of two seconds share a plan.
    poll(lambda: not operator.get("/unlock/plan")["done"], PLAN_SECONDS, "the plan lacks an image")
    page.page.reload()
    page.wait_for_text("title", "Images are missing")
    expect(page.at("steps")).to_be_hidden()
    assert "unlocked last, images of it are missing" in page.at("releases").inner_text()


@pytest.mark.long
def test_the_page_reports_a_loader_that_restarts_during_an_unlock(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    wire.hold_upload(after=HELD_AFTER)
    unlock_device.put(packed.path)
    bind = f"127.0.0.1:{free_port()}"
    loader = unlock_device.start(wire.host, LOADER_BIND=bind).loader
    page = open_page(loader.url)
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("unlocking")
    wire.wait_until_held()
    loader.process.kill_tree()
    page.wait_for_badge("no answer")
    page.wait_for_text("unreachable", "The loader does not respond.")
    wire.heal()

    unlock_device.start(wire.host, LOADER_BIND=bind)
    page.wait_for_badge("interrupted")
    expect(page.at("unreachable")).to_be_hidden()
    page.wait_for_text("failure", "The loader was restarted during the unlock.")
    expect(page.at("password")).to_have_value("")
    assert PASSWORD not in page.kept()
    page.enter(PASSWORD, email=EMAIL)
    page.wait_for_badge("ready")
