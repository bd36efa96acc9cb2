"""What an error of the way to the API must say."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiFault, ApiUnreachable
from tests.support.breakable_api import Behaviour
from tests.support.certificates import Authority
from tests.support.http_calls import EMAIL, PASSWORD

# To connect and of silence, in seconds.
TIMEOUTS = (1.0, 1.0)
# Starts a server that treats each connection in one way, and returns its port.
Start = Callable[[Behaviour], int]


def failure_at(url: str, authority: Authority | None = None) -> ApiFault:
    """Return the error of a login at `url`."""
    client = ApiClient(url, ca_bundle=str(authority.path) if authority else None, timeouts=TIMEOUTS)
    with pytest.raises(ApiFault) as caught:
        client.login(EMAIL, PASSWORD)
    assert isinstance(caught.value, ApiUnreachable) is not client.reachable
    return caught.value


def assert_says(error: ApiFault, place: str, reason: str, hint: str) -> None:
    """Require the sentence with `place` and `reason`, the words `hint` in the hint, and no secret."""
    assert isinstance(error, ApiUnreachable)
    sentence = rf"The resource API at {re.escape(place)} could not be reached: ({reason})\."
    assert re.fullmatch(sentence, str(error)), str(error)
    assert re.search(hint, error.hint), error.hint
    assert re.fullmatch(r"[A-Z][^{}]*\.", error.hint)
    assert PASSWORD not in f"{error} {error.hint}"
