"""The server closes connections that transfer no byte, because silent clients could otherwise occupy all threads."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.resource_api.conftest import REPOSITORY, Api, new_data
from tests.support.processes import poll
from tests.support.procfs import open_descriptors

OBJECT_BYTES = 40_000_000  # more than the socket buffers of both sides hold
DEADLINE_SECONDS = 20


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Yield a server whose timeout for stalls is one second instead of sixty."""
    directory = tmp_path_factory.mktemp("impatient")
    # Python imports the module `sitecustomize` when it starts, so that the server process gets the new timeout.
    (directory / "sitecustomize.py").write_text("import resource_api.app\nresource_api.app.STALL_SECONDS = 1\n")
    with Api(new_data(directory), PYTHONPATH=f"{directory}:{REPOSITORY}") as api:
        yield api


def head(api: Api, method: str, *headers: str) -> bytes:
    """Return the head of a request, which the test sends over a socket."""
    lines = [f"{method} /resources/a HTTP/1.1", "Host: x", f"Authorization: {api.bearer()['Authorization']}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def test_a_stalled_upload_is_408(impatient: Api) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), DEADLINE_SECONDS) as connection:
        connection.sendall(head(impatient, "PUT", "Content-Length: 10") + b"12345")
        response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert response.startswith(b"HTTP/1.1 408")
    assert impatient.stored() == {}


@pytest.mark.parametrize("extra", [(), ("Range: bytes=1-",)])
def test_a_stalled_download_is_cut(impatient: Api, extra: tuple[str, ...]) -> None:
    impatient.call("PUT", "/resources/a", impatient.bearer(), bytes(OBJECT_BYTES))

    def is_being_sent() -> bool:
        return str(impatient.data.resources / "a") in open_descriptors(impatient.worker()).values()

    with socket.create_connection(("127.0.0.1", impatient.port), DEADLINE_SECONDS) as connection:
        connection.sendall(head(impatient, "GET", *extra))
        poll(is_being_sent, DEADLINE_SECONDS, "the download starts")
        poll(lambda: not is_being_sent(), DEADLINE_SECONDS, "the download is cut")
        received = 0
        while piece := connection.recv(1 << 20):
            received += len(piece)
    assert received < OBJECT_BYTES
    (impatient.data.resources / "a").unlink()


@pytest.mark.parametrize(
    "request_start",
    [
        b"GET /resources/a HTTP/1.1\r\nHost: x\r\n",
        b"GET /resources/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
    ],
    ids=["half a head", "a connection that stays open", "nothing"],
)
def test_clients_that_do_not_go_on_stop_no_login(api: Api, request_start: bytes) -> None:
    with ExitStack() as opened:
        for _ in range(30):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", api.port), DEADLINE_SECONDS))
            client.sendall(request_start)
        started = time.monotonic()
        api.bearer()
        assert time.monotonic() - started < 2
