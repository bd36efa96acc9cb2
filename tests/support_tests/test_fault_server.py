"""The fakes raise their own errors, so that a test with a wrong fake fails, and no error of a client that leaves."""

from __future__ import annotations

import ssl

import pytest

from tests.support.fault_server import FaultServer


def handle(error: Exception) -> None:
    """Handle `error` as a fake does after a failed response."""
    with FaultServer() as server:
        try:
            raise error
        except type(error):
            server.handle_error()


def test_an_error_of_the_fake_itself_is_raised() -> None:
    with pytest.raises(KeyError):
        handle(KeyError("x"))


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionAbortedError(), ssl.SSLError()])
def test_a_client_that_leaves_or_refuses_a_handshake_is_no_error(error: OSError) -> None:
    handle(error)
