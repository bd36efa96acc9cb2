"""A real browser for the loader's page, which records all requests, console messages and script errors of the page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from tests.support.http_calls import EMAIL
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import poll

# These are no loopback names, because a browser sends Sec-Fetch-Site over plain HTTP only to loopback names.
DEVICE_HOST = "device.test"
FOREIGN_HOST = "foreign.test"
PATIENCE_SECONDS = 20.0
# The browser logs each refused or failed request with this text. It is no complaint, because some tests make requests
# fail and check what the page shows then.
FAILED_REQUEST = "Failed to load resource:"
# Windows by their width: two phones, a tablet and a laptop.
HEIGHTS = {320: 720, 360: 740, 768: 1024, 1280: 800}
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless browser, or call `missing` if chromium is not installed."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium", "it is not installed")
    resolve = f"--host-resolver-rules=MAP {DEVICE_HOST} 127.0.0.1, MAP {FOREIGN_HOST} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[resolve])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One tab of a browser.

    `requests` are the URLs that its context has requested. `complaints` are the errors and warnings on its console and
    the errors of its scripts.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.set_default_timeout(PATIENCE_SECONDS * 1000)
        context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(FAILED_REQUEST):
            self.complaints.append(message.text)

    def foreign_requests(self, *origins: str) -> list[str]:
        """Return the requested URLs that are below none of `origins`."""
        return [url for url in self.requests if not any(url.startswith(f"{origin}/") for origin in origins)]


class LoaderPage(Visit):
    """A tab with the loader's page at `url`, which has no slash at its end."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        super().__init__(context)
        self.url = url
        response = self.page.goto(f"{url}/")
        assert response is not None
        assert response.ok, response.text()
        self.page.evaluate(
            """() => {
                window.spoken = [];
                new MutationObserver(() => spoken.push(announcer.textContent)).observe(announcer, { childList: true });
            }"""
        )

    def at(self, element_id: str) -> Locator:
        """Return the element with this id."""
        return self.page.locator(f"#{element_id}")

    def wait_for_badge(self, text: str) -> None:
        """Wait until the text of the badge is `text`."""
        expect(self.at("badge")).to_have_text(text, timeout=PATIENCE_SECONDS * 1000)

    def wait_for_text(self, element_id: str, text: str) -> None:
        """Wait until the element contains `text` and is visible."""
        expect(self.at(element_id)).to_contain_text(text, timeout=PATIENCE_SECONDS * 1000)
        expect(self.at(element_id)).to_be_visible()

    def enter(self, password: str, button: str = "Unlock", email: str = EMAIL) -> None:
        """Fill in the form and press a button."""
        self.at("email").fill(email)
        self.at("password").fill(password)
        self.page.get_by_role("button", name=button, exact=True).click()

    def look_again(self) -> None:
        """Make the page poll at once, as it does when its tab becomes visible."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def watch_run(self, until: Callable[[], bool]) -> list[tuple[float, str, str]]:
        """Return what the bar, the rate and the time left show until `until` is true, in order without repetitions."""
        seen: list[tuple[float, str, str]] = []

        def look() -> bool:
            shown = self.page.evaluate(
                "() => [bar.value / bar.max, rate.textContent, eta.textContent]"  # Each id is a global variable.
            )
            if tuple(shown) not in seen[-1:]:
                seen.append(tuple(shown))
            return until()

        poll(look, PATIENCE_SECONDS, "the run ends")
        return seen

    def spoken(self) -> list[str]:
        """Return all texts that the page has announced to screen readers since it was opened."""
        said: list[str] = self.page.evaluate("window.spoken")
        return said

    def kept(self) -> str:
        """Return as one text everything in which the page could keep a secret."""
        state = self.page.evaluate(
            """() => [location.href, document.documentElement.outerHTML, document.cookie,
                      ...[...document.querySelectorAll("input")].map(input => input.value),
                      JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(history.state)]"""
        )
        return json.dumps([state, self.context.storage_state()])

    def scrolls_sideways(self) -> bool:
        """Return whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def findings(self) -> list[str]:
        """Return the faults of accessibility that axe-core finds."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)  # The page's policy would forbid a script element.
        results: dict[str, Any] = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in results["violations"]
            for node in violation["nodes"]
        ]

    def screenshot(self, name: str) -> None:
        """Save a screenshot of the whole page in the output of CI, where a reviewer can look at it."""
        directory = Path(os.environ.get("CI_OUTPUT", REPOSITORY / "build")) / "screenshots"
        self.page.screenshot(path=directory / f"{name}.png", full_page=True)


def assert_fit(page: LoaderPage, state: str) -> None:
    """Save screenshots of the current state, and check that it is accessible, fits the window and does not move."""
    for scheme in ("light", "dark"):
        page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width, height in HEIGHTS.items():
            page.page.set_viewport_size({"width": width, "height": height})
            page.screenshot(f"{state}-{scheme}-{width}")
            assert not page.scrolls_sideways(), (state, scheme, width)
            assert page.findings() == [], (state, scheme, width)
    assert page.page.evaluate("document.getAnimations().length") == 0, state


def rows(page: LoaderPage, element_id: str) -> list[str]:
    """Return the rows of a list on the page as "name: tag"."""
    texts = [page.at(element_id).locator(part).all_inner_texts() for part in (".name", ".tag")]
    return [": ".join(pair) for pair in zip(*texts, strict=True)]


def blocked(page: Page, script: str) -> str | None:
    """Run `script`, which has a `fetch`, in `page`. Return its error, or None if a response arrived."""
    try:
        page.evaluate(script)
    except Error as exc:
        return exc.message
    return None
