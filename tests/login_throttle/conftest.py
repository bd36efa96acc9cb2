"""Fixtures: a throttle that nobody has used yet."""

from __future__ import annotations

import pytest

from tests.login_throttle.clients import Logins


@pytest.fixture
def logins() -> Logins:
    """Clients and their throttle, which has seen no login."""
    return Logins()
