"""Endless responses: the client gives up at the limit and uses little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiProtocol, LoaderError
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD

MIB = 1 << 20
# No JSON, but it begins like that of a login.
PIECE = b"{" * (1 << 16)
# The largest of the limits is that of the small object, 1.1 MiB, and its bytes are held twice when they are handed on.
MEMORY = 8 * MIB
# What the kernel buffers on the way, and the largest limit.
SENT = 32 * MIB

FRAMINGS = {
    "a length of an exabyte": (b"Content-Length: %d\r\n\r\n" % (1 << 60), PIECE),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(PIECE), PIECE)),
    "one chunk of an exabyte": (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (1 << 60), PIECE),
    "the end of the connection": (b"Connection: close\r\n\r\n", PIECE),
}
REQUESTS: dict[str, Callable[[ApiClient], object]] = {
    "login": lambda client: client.login(EMAIL, PASSWORD),
    "key fragment": lambda client: client.key_fragment(CHECK),
    "small object": lambda client: client.small_object("m/x.small"),
}


@contextmanager
def endless_api(status: bytes, framing: str, *, login_too: bool) -> Iterator[tuple[FaultyApi, ApiClient]]:
    head, piece = FRAMINGS[framing]
    endless = Fault(endless=(b"HTTP/1.1 " + status + b"\r\n" + head, piece))
    with FaultyApi() as server:
        server.answer_all("GET", endless)
        if login_too:
            server.answer("POST", "/login", endless)
        client = ApiClient(server.url, ca_bundle=None, timeouts=TIMEOUTS)
        if not login_too:
            client.login(EMAIL, PASSWORD)
        yield server, client


def peak(request: Callable[[ApiClient], object], client: ApiClient, error: type[LoaderError]) -> int:
    """The memory that a request took at most until it failed."""
    tracemalloc.start()
    try:
        with pytest.raises(error):
            request(client)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", REQUESTS)
def test_client_gives_up_an_endless_response(name: str, framing: str) -> None:
    with endless_api(b"200 OK", framing, login_too=name == "login") as (server, client):
        assert peak(REQUESTS[name], client, ApiProtocol) < MEMORY
        assert server.sent < SENT


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("status", [b"500 Oh", b"403 No"])
def test_body_of_an_error_is_not_read(framing: str, status: bytes) -> None:
    with endless_api(status, framing, login_too=False) as (server, client):
        for name in ("key fragment", "small object"):
            assert peak(REQUESTS[name], client, ApiError) < MIB
        client.forget()
        assert server.sent < SENT


def test_endless_headers_are_given_up() -> None:
    headers = Fault(endless=(b"HTTP/1.1 200 OK\r\n", b"X-More: " + PIECE[:1000].hex().encode() + b"\r\n"))
    with FaultyApi() as server:
        server.answer_all("GET", headers)
        client = ApiClient(server.url, ca_bundle=None, timeouts=TIMEOUTS)
        client.login(EMAIL, PASSWORD)
        assert peak(REQUESTS["key fragment"], client, LoaderError) < MIB


def test_the_memory_check_detects_a_lifted_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.api_client.client.FRAGMENT_MAX_SIZE", 4 * MEMORY)
    with endless_api(b"200 OK", "chunks", login_too=False) as (_, client):
        assert peak(REQUESTS["key fragment"], client, ApiProtocol) > MEMORY
