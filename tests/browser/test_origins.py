"""Pages of other origins, in a browser on the device's network, can neither use the loader nor read its responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import DEVICE_HOST, FOREIGN_HOST, Visit, blocked
from tests.browser.conftest import Open
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import CREDENTIALS, EMAIL, PASSWORD
from tests.support.processes import poll
from tests.support.sites import Site

PATHS = ("/login", "/unlock", "/upload/planted")
RESPONSE_SECONDS = 10.0


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    """The port of a web server that does not belong to the loader. Its empty pages run the scripts of the tests."""
    with FaultyApi() as server:
        server.answer_all("GET", Fault(headers={"Content-Type": "text/html"}))
        yield server.port


@dataclass(frozen=True)
class Attack:
    """A page of `origin` in the tab `visit`, and `target`, the URL of the loader with a host name that it trusts."""

    visit: Visit
    origin: str
    target: str

    def status_of_post(self, script: str) -> tuple[str, int]:
        """Run `script` in the page, wait for the response to its POST, and return the path and the status."""
        self.visit.page.goto(self.origin)
        with self.visit.page.expect_response(lambda response: response.request.method == "POST") as caught:
            self.visit.page.evaluate(f"() => {{ {script} }}")
        return urlsplit(caught.value.url).path, caught.value.status


# Each case is a pair: the host of the attacking page and the host of the loader. A browser sends Sec-Fetch-Site over
# plain HTTP only to loopback addresses, so the loader needs a case with and a case without this header.
@pytest.fixture(
    params=[("127.0.0.1", "127.0.0.1"), (FOREIGN_HOST, "127.0.0.1"), (FOREIGN_HOST, DEVICE_HOST)],
    ids=" at ".join,
)
def attack(request: pytest.FixtureRequest, site: Site, foreign_port: int, browser: Browser) -> Iterator[Attack]:
    """A page of another origin."""
    attacker, host = request.param
    with browser.new_context() as context:
        origin = f"http://{attacker}:{foreign_port}/"
        visit = Visit(context)
        visit.page.goto(origin)
        yield Attack(visit, origin, f"http://{host}:{urlsplit(site.url).port}")


def test_a_foreign_script_cannot_post(attack: Attack, site: Site) -> None:
    body = json.dumps(json.dumps(CREDENTIALS))
    as_json = "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}"
    for path in PATHS:
        address = f"{attack.target}{path}"
        unasked = f"fetch('{address}', {{method: 'POST', mode: 'no-cors', body: {body}}})"
        assert attack.status_of_post(unasked) == (path, 403)
        assert "Failed to fetch" in str(blocked(attack.visit.page, f"fetch('{address}', {as_json})"))
    assert site.api.requests() == []


def test_a_foreign_form_cannot_post(attack: Attack, site: Site) -> None:
    for path in PATHS:
        kind = "multipart/form-data" if path.startswith("/upload") else "text/plain"
        submit = f"""
            const form = document.createElement('form');
            Object.assign(form, {{method: 'POST', action: '{attack.target}{path}', enctype: '{kind}', target: 'sink'}});
            form.append(Object.assign(document.createElement('input'), {{name: 'folder', value: 'planted'}}));
            document.body.append(form, Object.assign(document.createElement('iframe'), {{name: 'sink'}}));
            form.submit();
        """
        assert attack.status_of_post(submit) == (path, 403)
    assert site.api.requests() == []


def test_a_foreign_page_can_neither_read_nor_frame_the_loader(attack: Attack) -> None:
    page = attack.visit.page
    for path in ("/status", "/unlock/status", "/unlock/plan", "/"):
        assert "Failed to fetch" in str(blocked(page, f"fetch('{attack.target}{path}')"))
        unread = f"fetch('{attack.target}{path}', {{mode: 'no-cors'}}).then(response => response.text())"
        assert page.evaluate(unread) == ""
    page.evaluate(f"document.body.append(Object.assign(document.createElement('iframe'), {{src: '{attack.target}/'}}))")

    def is_refused() -> bool:
        page.evaluate("0")  # Playwright delivers console messages only during a call.
        return any("frame-ancestors" in complaint for complaint in attack.visit.complaints)

    poll(is_refused, RESPONSE_SECONDS, "the frame is refused")


def test_the_loaders_own_page_can_post_without_sec_fetch_site(site: Site, open_page: Open) -> None:
    page = open_page(f"http://{DEVICE_HOST}:{urlsplit(site.url).port}")
    page.enter(PASSWORD, "Log in", email=EMAIL)
    page.wait_for_text("done", "Logged in.")
    assert [request.path for request in site.api.requests("POST")] == ["/login"]
    assert PASSWORD not in page.kept()


def test_an_untrusted_host_name_gets_no_page(site: Site, browser: Browser) -> None:
    with browser.new_context() as context:
        response = Visit(context).page.goto(f"http://{FOREIGN_HOST}:{urlsplit(site.url).port}/")
        assert response is not None
        assert (response.status, response.json()["code"]) == (400, "UNTRUSTED_HOST")
