"""Restarts and stops of the server while transfers run, and its health while all threads are taken."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import NamedTuple

import pytest

from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import Api
from tests.support.processes import poll
from tests.support.procfs import children, is_running, open_descriptors

SECONDS = 30
MIB = 1 << 20
# More than the buffers of a loopback connection take.
OBJECT = os.urandom(MIB) * 16
PART = OBJECT[: 8 * MIB]
# gunicorn's time for running requests. A transfer of the tests outlasts it many times.
GRACE = 1
THREADS = 32


class Transfer(NamedTuple):
    """One that has begun. `finish` does the rest, and returns status and body of the response."""

    finish: Callable[[], tuple[int, bytes]]


class Half(NamedTuple):
    """How a kind of transfer begins, and what its whole response is."""

    begin: Callable[[Api, dict[str, str]], Transfer]
    done: tuple[int, bytes]


def download(api: Api, bearer: dict[str, str]) -> Transfer:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=SECONDS)
    connection.request("GET", "/resources/large", headers=bearer)
    response = connection.getresponse()
    begun = response.read(MIB)

    def finish() -> tuple[int, bytes]:
        with closing(connection), response:
            return response.status, begun + response.read()

    return Transfer(finish)


def upload(api: Api, bearer: dict[str, str], path: str = "/resources/new", content: bytes = OBJECT) -> Transfer:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=SECONDS)
    connection.putrequest("PUT", path)
    for name, value in {**bearer, "Content-Length": str(len(content))}.items():
        connection.putheader(name, value)
    connection.endheaders(content[:MIB])
    # A request that no thread has taken is not waited for.
    unfinished = (str(api.data.temporary), str(api.data.uploads))
    poll(
        lambda: any(name.startswith(unfinished) for name in open_descriptors(api.worker()).values()),
        SECONDS,
        "it begins",
    )

    def finish() -> tuple[int, bytes]:
        connection.send(content[MIB:])
        with closing(connection), connection.getresponse() as response:
            return response.status, response.read()

    return Transfer(finish)


def part(api: Api, bearer: dict[str, str]) -> Transfer:
    headers = {**bearer, "Content-Type": "application/json"}
    begun = api.call("POST", "/uploads", headers, json.dumps({"name": "models/x.big", "size": len(PART)}).encode())
    return upload(api, bearer, f"/uploads/{json.loads(begun.body)['upload']}/parts/1", PART)


TRANSFERS = {
    "download": Half(download, (200, OBJECT)),
    "upload": Half(upload, (201, b"")),
    "part of an upload": Half(part, (200, b"")),
}


@contextmanager
def served(data: DataDirectory, **environment: str) -> Iterator[tuple[Api, dict[str, str]]]:
    """Run a server that has an object, and log in."""
    (data.resources / "large").write_bytes(OBJECT)
    with Api(data, **environment) as api:
        yield api, api.bearer()


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_reload_leaves_a_transfer_whole_for_longer_than_the_grace(data: DataDirectory, kind: str) -> None:
    half = TRANSFERS[kind]
    with served(data, GUNICORN_CMD_ARGS=f"--graceful-timeout {GRACE}") as (api, bearer):
        old = api.worker()
        transfer = half.begin(api, bearer)
        api.process.send_signal(signal.SIGHUP)
        poll(lambda: set(children(api.process.pid)) - {old}, SECONDS, "a new worker")
        until = time.monotonic() + 3 * GRACE
        while time.monotonic() < until:
            assert api.call("GET", "/resources/large", {**bearer, "Range": "bytes=0-0"}).status == 206
            assert is_running(old)
        assert transfer.finish() == half.done
        poll(lambda: old not in children(api.process.pid), SECONDS, "the old worker ends")


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_stop_leaves_a_transfer_whole_within_the_grace(data: DataDirectory, kind: str) -> None:
    half = TRANSFERS[kind]
    with served(data) as (api, bearer):
        transfer = half.begin(api, bearer)
        api.process.send_signal(signal.SIGTERM)
        poll(lambda: is_refused(api.port), SECONDS, "no new connections")
        assert transfer.finish() == half.done
        assert api.process.wait(SECONDS) == 0


def test_a_stop_does_not_wait_for_longer_than_the_grace(data: DataDirectory) -> None:
    with served(data, GUNICORN_CMD_ARGS=f"--graceful-timeout {GRACE}") as (api, bearer):
        worker, transfer = api.worker(), download(api, bearer)
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(SECONDS) == 0
        assert not is_running(worker)
        with pytest.raises((OSError, http.client.IncompleteRead)):
            transfer.finish()


def test_health_answers_while_every_thread_has_a_slow_client(data: DataDirectory) -> None:
    with served(data) as (api, bearer):
        reads = [download(api, bearer) for _ in range(THREADS)]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(api.call, "GET", "/resources/large", {**bearer, "Range": "bytes=0-0"})
            for _ in range(10):
                assert api.call("GET", "/health").status == 200
            assert not waiting.done()
            assert [transfer.finish() for transfer in reads] == [(200, OBJECT)] * THREADS
            assert waiting.result().status == 206


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except OSError:
        return True
    return False
