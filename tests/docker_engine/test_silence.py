"""Engines that say nothing from the last byte of a tar to the end of the load.

The stand-in does what Docker 28 and 29 with the containerd store and podman were observed to do: they send neither a
head nor a byte of the response before they have unpacked everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine, connection
from loader.errors import EngineStalled
from tests.support.fake_engine import FakeCall, FakeEngine

MIB = 1 << 20
TIMEOUT = 0.5
SIZE = 4 * MIB
SECONDS = 20.0


class Tar:
    """A tar of `size` bytes, whose length a request announces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while self.taken < self._size:
            yield bytes(MIB)
            self.taken += MIB


Silent = Callable[[float], DockerEngine]


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """Make an engine that is silent for some seconds once it has a whole tar, and then has loaded it."""
    ended, seconds = threading.Event(), [0.0]

    def load(call: FakeCall) -> None:
        ended.wait(seconds[0])
        call.respond_bytes(200, b'{"stream":"Loaded image: app:1"}\n')

    with FakeEngine(tmp_path / "silent.sock", load) as fake:
        monkeypatch.setenv("DOCKER_HOST", fake.host)
        # A rate at which the tar gets four seconds more.
        monkeypatch.setattr(connection, "SLOWEST_UNPACKING", MIB)

        def make(silence: float) -> DockerEngine:
            seconds[0] = silence
            return DockerEngine(TIMEOUT)

        yield make
        ended.set()


def test_an_engine_that_unpacks_in_silence_gets_time_for_the_size_of_the_tar(silent: Silent) -> None:
    tar, started = Tar(SIZE), time.monotonic()
    silent(3 * TIMEOUT).load(tar)
    assert time.monotonic() - started >= 3 * TIMEOUT
    assert tar.taken == SIZE


def test_a_small_tar_gets_little_more_than_the_timeout(silent: Silent) -> None:
    with pytest.raises(EngineStalled):
        silent(SECONDS).load(Tar(MIB))


def test_an_engine_that_stays_silent_is_given_up(silent: Silent) -> None:
    started = time.monotonic()
    with pytest.raises(EngineStalled):
        silent(SECONDS).load(Tar(SIZE))
    assert TIMEOUT + SIZE / MIB <= time.monotonic() - started < SECONDS


def test_the_time_of_a_load_is_not_that_of_a_query(silent: Silent) -> None:
    engine = silent(0)
    engine.load(Tar(SIZE))
    assert {type(engine._connection.queries.timeout), type(engine._connection.transfers.timeout)} == {float}


def test_the_rate_is_the_one_of_the_manual() -> None:
    manual = Path(__file__).parents[2].joinpath("docs/operations.md").read_text()
    assert connection.SLOWEST_UNPACKING == 5 * MIB
    assert "one second more for each 5 MiB of the image" in manual
