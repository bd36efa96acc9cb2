"""The lane for logins: it bounds what is hashed and what waits, and nothing else waits behind it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from resource_api.accounts import Users
from resource_api.fragments import Fragments
from resource_api.login_lane import HASHES_AT_ONCE, MAX_WAITING, RETRY_AFTER_SECONDS, LaneFullError, LoginLane
from tests.resource_api.conftest import EMAIL, FRAGMENT, PASSWORD, REPOSITORY, Api, Reply, new_data
from tests.support.processes import poll

SECONDS = 20.0
DEVICE = "device-7"
PLACES = HASHES_AT_ONCE + MAX_WAITING
# Notes each password that comes and each that is hashed, and hashes it only once the test has made the file `go`.
PAUSED_HASHES = """
import time
from pathlib import Path
from resource_api import passwords

def note(line):
    with Path({notes!r}).open("a") as notes:
        notes.write(line + "\\n")

def noted(self, stored, sent, checkpoint, real=passwords.Passwords.matches):
    note("came " + sent)
    return real(self, stored, sent, checkpoint)

def paused(stored, sent, real=passwords.check_password_hash):
    note("hashed " + sent)
    while not Path({go!r}).exists():
        time.sleep(0.01)
    return real(stored, sent)

passwords.Passwords.matches = noted
passwords.check_password_hash = paused
"""


class PausedApi(Api):
    """A server that hashes no password to its end before `go`. `secret` is that of DEVICE."""

    def __init__(self, directory: Path) -> None:
        data = new_data(directory)
        Fragments(data).set(FRAGMENT)
        _, _, self.secret = Users(data).set_secret(DEVICE)
        self._notes, self._go = directory / "notes", directory / "go"
        self._notes.touch()
        paused = PAUSED_HASHES.format(notes=str(self._notes), go=str(self._go))
        # Python imports the module `sitecustomize` when it starts.
        (directory / "sitecustomize.py").write_text(paused)
        super().__init__(data, PYTHONPATH=f"{directory}:{REPOSITORY}")

    def go(self) -> None:
        self._go.touch()

    def came(self) -> set[str]:
        """Return the passwords that reached the lane."""
        return self._noted("came ")

    def hashed(self) -> set[str]:
        """Return the passwords whose hash has begun."""
        return self._noted("hashed ")

    def _noted(self, what: str) -> set[str]:
        lines = self._notes.read_text().splitlines()
        return {line.removeprefix(what) for line in lines if line.startswith(what)}


@pytest.fixture
def paused(tmp_path: Path) -> Iterator[PausedApi]:
    with PausedApi(tmp_path) as running:
        yield running
        running.go()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * PLACES) as pool:
        yield pool


def fill_turns(paused: PausedApi, pool: ThreadPoolExecutor) -> list[Future[Reply]]:
    """Start as many logins as may be hashed at once, and wait until they are."""
    running = [pool.submit(paused.login, EMAIL, f"guess {number}") for number in range(HASHES_AT_ONCE)]
    poll(lambda: len(paused.hashed()) == HASHES_AT_ONCE, SECONDS, "both turns are taken")
    return running


def send_login(api: Api, password: str) -> socket.socket:
    """Send a login without waiting for its response."""
    body = json.dumps({"email": EMAIL, "password": password}).encode()
    head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", api.port), SECONDS)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_nothing_waits_behind_a_full_lane(paused: PausedApi, pool: ThreadPoolExecutor) -> None:
    waiting = fill_turns(paused, pool)
    waiting += [pool.submit(paused.login) for _ in range(2 * MAX_WAITING)]
    poll(lambda: sum(each.done() for each in waiting) == MAX_WAITING, SECONDS, "the lane is full")
    refused = [each.result() for each in waiting if each.done()]
    assert {reply.status for reply in refused} == {503}
    assert {int(reply.headers["Retry-After"]) for reply in refused} <= set(RETRY_AFTER_SECONDS)
    assert refused[0].problem()["detail"] == "Too many logins are waiting."
    assert len(paused.hashed()) == HASHES_AT_ONCE

    bearer = paused.bearer(DEVICE, paused.secret)
    assert paused.call("GET", "/binary-split/key-fragment", bearer).body == FRAGMENT
    paused.go()
    statuses = [each.result().status for each in waiting]
    assert sorted(statuses) == [200] * MAX_WAITING + [401] * HASHES_AT_ONCE + [503] * MAX_WAITING
    assert paused.login().status == 200


def test_nothing_is_hashed_for_a_client_that_has_gone(paused: PausedApi, pool: ThreadPoolExecutor) -> None:
    first = fill_turns(paused, pool)
    with ExitStack() as open_connections:
        for number in range(MAX_WAITING // 2):
            send_login(paused, f"gone {number}").close()
            open_connections.enter_context(send_login(paused, f"there {number}"))
        poll(lambda: len(paused.came()) == PLACES, SECONDS, "all of them wait")
        paused.go()
        assert {each.result().status for each in first} == {401}
        poll(lambda: paused.process.stderr().count('"event": "login"') == PLACES, SECONDS, "all of them end")
    names = sorted(sent.split()[0] for sent in paused.hashed())
    assert names == ["guess"] * HASHES_AT_ONCE + ["there"] * (MAX_WAITING // 2)
    assert paused.login(EMAIL, PASSWORD).status == 200


def test_a_client_that_asks_for_more_on_its_connection_is_there(paused: PausedApi, pool: ThreadPoolExecutor) -> None:
    fill_turns(paused, pool)
    with send_login(paused, "pipelined") as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        paused.go()
        poll(lambda: "pipelined" in paused.hashed(), SECONDS, "it is hashed")


def test_the_lane_has_room_again_after_an_error() -> None:
    lane = LoginLane()
    for _ in range(2 * PLACES):
        with pytest.raises(ZeroDivisionError), lane.turn():
            raise ZeroDivisionError


def test_few_are_at_work_few_wait_and_the_others_are_refused() -> None:
    lane, end = LoginLane(), threading.Event()
    at_work: list[int] = []

    def take_turn(number: int) -> None:
        with lane.turn():
            at_work.append(number)
            assert end.wait(SECONDS)

    with ThreadPoolExecutor(2 * PLACES) as pool:
        entering = [pool.submit(take_turn, number) for number in range(2 * PLACES)]
        poll(lambda: sum(each.done() for each in entering) == PLACES, SECONDS, "the lane is full")
        assert len(at_work) == HASHES_AT_ONCE
        end.set()
        errors = [error for each in entering if (error := each.exception()) is not None]
    assert [type(error) for error in errors] == [LaneFullError] * PLACES
    assert len(at_work) == PLACES
