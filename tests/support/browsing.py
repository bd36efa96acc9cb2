"""A real browser at the loader's page, with an eye on all that the page asks for and complains about."""

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

# Names that are no loopback names: there a browser sends no Sec-Fetch-Site.
DEVICE_HOST = "device.test"
FOREIGN_HOST = "foreign.test"
PATIENCE_SECONDS = 20.0
# The browser itself reports each refused or broken request so; what the page makes of it is the test's business.
FAILED_REQUEST = "Failed to load resource:"
SERIOUS = ("serious", "critical")
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, or `missing`."""
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
    """One tab. `requests` are the addresses that it has asked for, `complaints` what was said on its console."""

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
        """The addresses that are below none of `origins`."""
        return [url for url in self.requests if not any(url.startswith(f"{origin}/") for origin in origins)]


class LoaderPage(Visit):
    """The loader's page at `url`, which ends without a slash."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        super().__init__(context)
        self.url = url
        answer = self.page.goto(f"{url}/")
        assert answer is not None
        assert answer.ok, answer.text()
        self.page.evaluate(
            """() => {
                window.spoken = [];
                new MutationObserver(() => spoken.push(announcer.textContent)).observe(announcer, { childList: true });
            }"""
        )

    def at(self, element_id: str) -> Locator:
        """The element with this id."""
        return self.page.locator(f"#{element_id}")

    def wait_for_badge(self, text: str) -> None:
        """Waits until the badge says `text`."""
        expect(self.at("badge")).to_have_text(text, timeout=PATIENCE_SECONDS * 1000)

    def wait_for_text(self, element_id: str, text: str) -> None:
        """Waits until the element is seen, and holds `text`."""
        expect(self.at(element_id)).to_contain_text(text, timeout=PATIENCE_SECONDS * 1000)
        expect(self.at(element_id)).to_be_visible()

    def enter(self, password: str, button: str = "Unlock", email: str = EMAIL) -> None:
        """Fills in the form, and presses a button."""
        self.at("email").fill(email)
        self.at("password").fill(password)
        self.page.get_by_role("button", name=button, exact=True).click()

    def look_again(self) -> None:
        """Lets the page ask at once, as it does when its tab is brought to the front."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def watch_run(self, until: Callable[[], bool]) -> list[tuple[float, str, str]]:
        """What bar, rate and time left show until `until`, in order and without repetitions."""
        seen: list[tuple[float, str, str]] = []

        def look() -> bool:
            shown = self.page.evaluate(
                "() => [bar.value / bar.max, rate.textContent, eta.textContent]"  # ids are names in scripts
            )
            if tuple(shown) not in seen[-1:]:
                seen.append(tuple(shown))
            return until()

        poll(look, PATIENCE_SECONDS, "the run ends")
        return seen

    def spoken(self) -> list[str]:
        """What the page has said to screen readers since it was opened."""
        said: list[str] = self.page.evaluate("window.spoken")
        return said

    def kept(self) -> str:
        """Everything that the page could keep a secret in, as one text."""
        state = self.page.evaluate(
            """() => [location.href, document.documentElement.outerHTML, document.cookie,
                      ...[...document.querySelectorAll("input")].map(input => input.value),
                      JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(history.state)]"""
        )
        return json.dumps([state, self.context.storage_state()])

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def findings(self) -> list[str]:
        """What axe-core holds to be a serious or critical barrier."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)  # not through the page, whose policy would forbid it
        results: dict[str, Any] = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in results["violations"]
            if violation["impact"] in SERIOUS
            for node in violation["nodes"]
        ]

    def screenshot(self, name: str) -> None:
        """Keeps a picture of the whole page for whoever looks at what CI has put out."""
        directory = Path(os.environ.get("CI_OUTPUT", REPOSITORY / "build")) / "screenshots"
        self.page.screenshot(path=directory / f"{name}.png", full_page=True)


def blocked(page: Page, script: str) -> str | None:
    """How a `fetch` in `script` failed in `page`; None if it was answered."""
    try:
        page.evaluate(script)
    except Error as exc:
        return exc.message
    return None
