"""An API that trickles, and a loader under gunicorn: a lock ends what hangs, and so does SIGTERM within its grace."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.breakable_api import BreakableApi
from tests.support.http_calls import Reply, call, load, login
from tests.support.processes import poll
from tests.support.sites import BareSite, bare_site
from tests.support.trickling import TRICKLES, Counted

SECONDS = 20.0
# As many logins as may hang before the next one is refused.
HANGING = 2
# Calls that hang end a second after a lock or SIGTERM, and by themselves only after an hour.
ENVIRONMENT = {
    "LOADER_THREADS": str(2 * HANGING),
    "API_READ_TIMEOUT": "3600",
    "HASTE": json.dumps({"loader.api_client.deadlines.PUNCTUAL_SECONDS": 0.5}),
}
# SIGTERM leaves a worker 30 seconds before it is killed.
MUCH_LESS_THAN_GRACE = 12.0

REQUESTS: dict[str, Callable[[str], Reply]] = {
    "login": login,
    "small part": lambda url: load(url, "m", "x"),
}


@pytest.fixture
def api() -> Iterator[BreakableApi]:
    with BreakableApi() as running:
        yield running


@pytest.fixture
def site(api: BreakableApi, tmp_path: Path) -> Iterator[BareSite]:
    """A loader that is logged in."""
    with bare_site(tmp_path, api.url, **ENVIRONMENT) as running:
        assert login(running.url).status == 200
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(HANGING) as made:
        yield made


def hang(
    pool: ThreadPoolExecutor, api: BreakableApi, site: BareSite, request: Callable[[str], Reply]
) -> list[Future[Reply]]:
    """Start requests whose calls of the API trickle, and wait until the API has all of them."""
    counted = Counted(TRICKLES["interim responses"])
    api.behaviour = counted
    hanging = [pool.submit(request, site.url) for _ in range(HANGING)]
    poll(lambda: counted.count == HANGING, SECONDS, "the calls")
    return hanging


@pytest.mark.parametrize("name", REQUESTS)
def test_after_a_lock_the_next_login_works_at_once(
    api: BreakableApi, site: BareSite, pool: ThreadPoolExecutor, name: str
) -> None:
    hanging = hang(pool, api, site, REQUESTS[name])
    api.behaviour = None
    assert call(site.url, "POST", "/lock").status == 200
    for each in hanging:
        each.result(SECONDS).problem(401, "NOT_LOGGED_IN")
    assert login(site.url).status == 200


@pytest.mark.parametrize("name", REQUESTS)
def test_sigterm_does_not_wait_for_a_call_that_hangs(
    api: BreakableApi, site: BareSite, pool: ThreadPoolExecutor, name: str
) -> None:
    hanging = hang(pool, api, site, REQUESTS[name])
    site.loader.process.send_signal(signal.SIGTERM)
    assert site.loader.process.wait(MUCH_LESS_THAN_GRACE) == 0
    for each in hanging:
        each.result(SECONDS).problem(500, "INTERRUPTED")
