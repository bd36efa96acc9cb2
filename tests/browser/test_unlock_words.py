"""What the page says about an engine that is silent, and about images that nobody has authenticated."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest
from playwright.sync_api import expect

from loader.references import full_reference
from tests.browser.conftest import Open
from tests.support.archives import APP, DATABASE, Packed
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.http_calls import post_json
from tests.support.unlocking import EMAIL, PASSWORD, READY, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20


@pytest.mark.long
def test_the_bar_of_a_silent_engine_moves_and_says_what_is_known(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed, open_page: Open
) -> None:
    unlock_device.put(packed.path)
    page = open_page(unlock_device.start(wire.host).loader.url)
    page.wait_for_badge("locked")
    wire.hold_response()  # only now, because the plan tries whether a proxy forbids loads
    page.enter(PASSWORD, email=EMAIL)
    wire.wait_until_held()
    page.wait_for_text("activity", f"MB of {full_reference(APP)}, and unpacks them. No news for")
    assert page.at("bar").evaluate("bar => getComputedStyle(bar).animationName") == "silent"
    wire.release()
    page.wait_for_badge("ready")
    expect(page.at("activity")).to_be_hidden()
    page.wait_for_text("lead", "Proven: a key fragment has authenticated")
    page.wait_for_text("lead", "Logged in.")


def test_ready_without_a_key_is_said_to_be_not_proven(
    unlock_device: UnlockDevice, docker: Engine, open_page: Open
) -> None:
    image = HandmadeImage(APP)
    docker.client.images.load(b"".join(docker_archive(image)))
    seal(unlock_device.archive, [image])
    operator = unlock_device.start(docker.host)
    operator.unlock()
    page = open_page(operator.loader.url)
    page.wait_for_badge("ready")
    page.wait_for_text("title", "Images are ready")
    page.wait_for_text("lead", "Not proven: no key fragment has authenticated")
    page.wait_for_text("lead", "Not logged in: log in, so that services here can load models.")
    credentials = {"email": EMAIL, "password": PASSWORD}
    assert post_json(operator.loader.url, "/login", credentials).status == HTTPStatus.OK
    page.wait_for_text("lead", "Logged in.")
    page.wait_for_text("lead", "Not proven: no key fragment has authenticated")


@pytest.mark.long
def test_an_update_says_how_much_of_each_image_is_sent(
    unlock_device: UnlockDevice, docker: Engine, open_page: Open
) -> None:
    large = HandmadeLayer(bytes(MIB), 20)
    operator = unlock_device.start(docker.host)
    seal(unlock_device.archive, [HandmadeImage(APP, (large,))])
    assert operator.unlock() == READY
    seal(unlock_device.archive, [HandmadeImage(APP, (large, HandmadeLayer(b"new", 1000))), HandmadeImage(DATABASE)])
    page = open_page(operator.loader.url)
    page.wait_for_text("images", f"{full_reference(APP)}an update")
    page.wait_for_text("images", "16 kB of 21 MB to send")
    page.wait_for_text("images", f"{full_reference(DATABASE)}not loaded yet")
    expect(page.at("to-send")).to_have_text(re.compile("^[0-9]+ kB, in (a few seconds|[0-9]+ s)$"))
    assert operator.unlock() == READY


@pytest.mark.long
def test_the_page_shows_what_happened_last(unlock_device: UnlockDevice, docker: Engine, open_page: Open) -> None:
    seal(unlock_device.archive, [HandmadeImage(APP)])
    operator = unlock_device.start(docker.host)
    page = open_page(operator.loader.url)
    page.wait_for_text("last-note", "Nothing is known of what happened earlier.")
    assert operator.unlock("a wrong password").code == "LOGIN_REJECTED"
    page.wait_for_text("last", "Unlockfailed")
    page.wait_for_text("last", f"{EMAIL} · from 127.0.0.1 · release 1.4 · The resource API rejected")
    assert operator.unlock() == READY
    page.wait_for_text("last", "Unlockok")
    page.wait_for_text("last", "Loginok")
    expect(page.at("last-note")).to_be_hidden()
