"""Connections that the API closes just as they are used again. The server is a fake: no real one does it on time."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedReader

import pytest

from loader.api_client.client import ApiClient
from loader.errors import ApiUnreachable
from tests.support.faulty_api import CHECK

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
# Long enough for a key fragment, too.
TOKEN = b'{"token":"the-token-of-a-forgetful-server"}'
TIMEOUTS = (2.0, 2.0)
# A client may keep its connection for longer than the test lasts.
SECONDS = 1.0


class ForgetfulServer:
    """Responds to the first request of each connection, reads the second one and then closes the connection.

    Connections beyond `patience` are closed at their first request. `requests` are the first lines of all.
    """

    def __init__(self, patience: int) -> None:
        self.requests: list[bytes] = []
        self._patience = patience
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="forgetful-server")
        self._thread.start()

    def _serve(self) -> None:
        for number in range(self._patience + 2):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(SECONDS)
            with connection, connection.makefile("rb") as stream, suppress(TimeoutError):
                if number < self._patience and self._read(stream):
                    connection.sendall(RESPONSE % (len(TOKEN), TOKEN))
                self._read(stream)

    def _read(self, stream: BufferedReader) -> bool:
        """Read a request and note it; False at the end."""
        first = stream.readline().rstrip()
        headers = http.client.parse_headers(stream)
        stream.read(int(headers.get("Content-Length", "0")))
        if first:
            self.requests.append(first)
        return bool(first)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def forgetful(request: pytest.FixtureRequest) -> Iterator[ForgetfulServer]:
    server = ForgetfulServer(request.param)
    yield server
    server.close()


def logged_in(server: ForgetfulServer) -> ApiClient:
    client = ApiClient(server.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login("operator@example.org", "planted-password")
    return client


LOGIN, KEY = b"POST /login HTTP/1.1", b"GET /binary-split/key-fragment?check=%b HTTP/1.1" % CHECK.encode()


@pytest.mark.parametrize("forgetful", [2], indirect=True)
def test_a_download_is_retried_over_a_new_connection(forgetful: ForgetfulServer) -> None:
    client = logged_in(forgetful)
    assert client.key_fragment(CHECK).content == TOKEN
    assert forgetful.requests == [LOGIN, KEY, KEY]


@pytest.mark.parametrize("forgetful", [2], indirect=True)
def test_a_login_is_retried_over_a_new_connection(forgetful: ForgetfulServer) -> None:
    logged_in(forgetful).login("operator@example.org", "planted-password")
    assert forgetful.requests == [LOGIN, LOGIN, LOGIN]


@pytest.mark.parametrize("forgetful", [1], indirect=True)
def test_a_request_is_retried_only_once(forgetful: ForgetfulServer) -> None:
    client = logged_in(forgetful)
    with pytest.raises(ApiUnreachable):
        client.key_fragment(CHECK)
    assert forgetful.requests == [LOGIN, KEY, KEY]


@pytest.mark.parametrize("forgetful", [2], indirect=True)
def test_an_upload_is_not_sent_twice(forgetful: ForgetfulServer) -> None:
    client = logged_in(forgetful)
    with pytest.raises(ApiUnreachable):
        client.put_object("day/x.small", b"content")
    assert forgetful.requests == [LOGIN, b"PUT /resources/day/x.small HTTP/1.1"]


@pytest.mark.parametrize("forgetful", [2], indirect=True)
@pytest.mark.parametrize(
    ("send", "line"),
    [
        (lambda client: client.put_object("day/x.small", b"content"), b"PUT /resources/day/x.small HTTP/1.1"),
        (lambda client: client.key_fragment(CHECK), KEY),
        (lambda client: client.small_object("x.small"), b"GET /resources/x.small HTTP/1.1"),
        (lambda client: client.login("operator@example.org", "planted-password"), LOGIN),
    ],
)
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    forgetful: ForgetfulServer, send: Callable[[ApiClient], object], line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.api_client.connections.IDLE_SECONDS", 0.0)
    client = logged_in(forgetful)
    send(client)
    assert forgetful.requests == [LOGIN, line]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:9", "127.0.0.1 port 9 .*: Connection refused"),
        ("http://nowhere.invalid", "nowhere.invalid port 80 .*: .*(Name|name)"),
    ],
)
def test_a_failure_to_connect_names_host_port_and_reason(url: str, sentence: str) -> None:
    with pytest.raises(ApiUnreachable, match=sentence):
        ApiClient(url, ca_bundle=None, timeouts=TIMEOUTS).login("operator@example.org", "planted-password")
