"""Fixtures: an API with faults that the client of this process uses.

Test modules name this plugin in `pytest_plugins` and never import it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loader import api_client
from loader.settings import Settings
from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD


@pytest.fixture
def api() -> Iterator[FaultyApi]:
    """Start an API without a login; restore the state of `loader.api_client` at the end."""
    before = (api_client._settings, api_client._api_client)
    with FaultyApi() as running:
        api_client.configure(Settings.from_env({"RESOURCE_API_URL": running.url, "API_READ_TIMEOUT": "1"}))
        yield running
    api_client._settings, api_client._api_client = before


@pytest.fixture
def logged_in(api: FaultyApi) -> FaultyApi:
    """Return an API where this process is logged in."""
    api_client.get_api_client().login(EMAIL, PASSWORD)
    return api
