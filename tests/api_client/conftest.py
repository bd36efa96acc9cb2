"""APIs that the client under test talks to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from loader.api_client.client import ApiClient
from tests.api_client.reasons import Start
from tests.support.breakable_api import Behaviour, BreakableApi
from tests.support.faulty_api import FaultyApi

# Connect and read timeouts in seconds. TIMEOUTS is longer than a busy machine delays a response; IMPATIENT is for tests
# that expect no response.
TIMEOUTS = (10.0, 10.0)
IMPATIENT = (2.0, 1.0)


@pytest.fixture
def api() -> Iterator[FaultyApi]:
    """An API, healthy at first."""
    with FaultyApi() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[FaultyApi]:
    """Another host, which the client is not configured for."""
    with FaultyApi() as running:
        yield running


@pytest.fixture
def client(api: FaultyApi) -> ApiClient:
    """A client that is logged in at `api`."""
    return logged_in(api, TIMEOUTS)


@pytest.fixture
def impatient(api: FaultyApi) -> ApiClient:
    """A logged-in client that waits only one second for a response."""
    return logged_in(api, IMPATIENT)


def logged_in(api: FaultyApi, timeouts: tuple[float, float]) -> ApiClient:
    made = ApiClient(api.url, ca_bundle=None, timeouts=timeouts)
    made.login("operator@example.org", "planted-password")
    return made


@pytest.fixture
def start_api() -> Iterator[Callable[..., FaultyApi]]:
    """Starts one more API."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(FaultyApi(**options))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that break off or lie."""
    with ExitStack() as running:

        def start(behaviour: Behaviour) -> int:
            api = running.enter_context(BreakableApi())
            api.behaviour = behaviour
            return api.port

        yield start
