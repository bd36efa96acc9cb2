"""The JavaScript modules of the page, each run alone in the browser: units.js and polling.js."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import LoaderPage
from tests.support.sites import Site

HOUR = 3600
NOTHING = "\N{EN DASH}"

# Runs `keepAsking` with the given states and a hidden or visible tab. A replaced timer records the pauses and waits
# for none of them.
LOOP = """async ([states, hidden]) => {
    const { keepAsking } = await import('./static/polling.js');
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    const realTimer = window.setTimeout;
    const pauses = [];
    let next;
    try {
        window.setTimeout = (turn, pause) => { pauses.push(pause); next = turn; };
        let asked = 0;
        keepAsking(async () => states[asked++]);
        for (let turn = 1; turn <= states.length; turn += 1) {
            while (pauses.length < turn) await null;
            if (turn < states.length) next();
        }
        return pauses;
    } finally {
        window.setTimeout = realTimer;
    }
}"""


@pytest.fixture(scope="module")
def page(_shared_site: Site, browser: Browser) -> Iterator[LoaderPage]:
    """A page without its main module, because the timers of that module would disturb the tests."""
    with browser.new_context() as context:
        context.route("**/page.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        yield LoaderPage(context, _shared_site.url)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("bytes(0)", "0 B"),
        ("bytes(999)", "999 B"),
        ("bytes(1_000)", "1 kB"),
        ("bytes(1_234_567)", "1 MB"),
        ("bytes(2_500_000_000)", "2.5 GB"),
        ("bytes(2_500_000_000_000)", "2500.0 GB"),
        ("rate(0)", NOTHING),
        ("rate(null)", NOTHING),
        ("rate(12_000_000)", "12 MB/s"),
        ("duration(null)", NOTHING),
        ("duration(0)", "< 0.1 s"),
        ("duration(0.42)", "0.4 s"),
        ("duration(59.4)", "59 s"),
        ("duration(59.6)", "1 min 0 s"),
        ("duration(75)", "1 min 15 s"),
        (f"duration({2 * HOUR + 60})", "2 h 1 min"),
        ("guess(null)", NOTHING),
        ("guess(3.2)", "a few seconds"),
        ("guess(42.2)", "42 s"),
    ],
)
def test_amounts_are_formatted_for_people(page: LoaderPage, call: str, text: str) -> None:
    assert page.page.evaluate(f"import('./static/units.js').then(units => units.{call})") == text


@pytest.mark.parametrize(
    ("states", "hidden", "seconds"),
    [
        (["resting", "moving", "resting"], False, [5, 1, 5]),
        (["resting", "moving", "unreachable"], True, [60, 10, 60]),
        (["unreachable"] * 6, False, [1, 2, 4, 8, 15, 15]),
        (["unreachable", "unreachable", "moving", "unreachable"], False, [1, 2, 1, 1]),
    ],
)
def test_the_pause_between_polls_depends_on_state_visibility_and_failures(
    page: LoaderPage, states: list[str], hidden: bool, seconds: list[int]
) -> None:
    assert page.page.evaluate(LOOP, [states, hidden]) == [1000 * pause for pause in seconds]


def test_a_tab_that_becomes_visible_polls_at_once(page: LoaderPage) -> None:
    asked = """async () => {
        const { keepAsking } = await import('./static/polling.js');
        Object.defineProperty(document, 'hidden', { value: false, configurable: true });
        let count = 0;
        let inside = 0;
        let most = 0;
        keepAsking(async () => {
            count += 1;
            inside += 1;
            most = Math.max(most, inside);
            await null;
            inside -= 1;
            return 'resting';
        });
        document.dispatchEvent(new Event('visibilitychange'));
        while (count < 2) await new Promise((done) => setTimeout(done));
        return [count, most];
    }"""
    assert page.page.evaluate(asked) == [2, 1]
