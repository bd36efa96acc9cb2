"""The interrupter: calls that it may leave behind."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest

from loader.errors import Interrupted
from loader.unlock.run import Interrupter

WAIT_SECONDS = 10.0
SOON_SECONDS = 2.0
MANY = 200

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def interrupter() -> Interrupter:
    return Interrupter()


def stop_later(interrupter: Interrupter, begun: threading.Event) -> threading.Thread:
    def stop() -> None:
        begun.wait(WAIT_SECONDS)
        interrupter.stop("it was told to stop")

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def test_the_result_comes_back(interrupter: Interrupter) -> None:
    assert interrupter.call(lambda: 7) == 7


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), TimeoutError("its own"), Interrupted("its own")], ids=repr)
def test_an_exception_comes_back(interrupter: Interrupter, error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        interrupter.call(fail)
    assert raised.value is error


def test_a_result_at_the_moment_of_the_look_is_no_time_out(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.unlock.run.POLL_SECONDS", 1e-4)

    def answer() -> int:
        time.sleep(2e-4)  # about as long as one look takes
        return 7

    assert [interrupter.call(answer) for _ in range(MANY)] == [7] * MANY


def test_the_context_of_the_caller_is_seen(interrupter: Interrupter) -> None:
    VARIABLE.set("set")
    assert interrupter.call(VARIABLE.get) == "set"


def test_after_a_stop_nothing_begins(interrupter: Interrupter) -> None:
    interrupter.checkpoint()
    interrupter.stop("it was told to stop")
    with pytest.raises(Interrupted):
        interrupter.checkpoint()
    begun: list[None] = []
    with pytest.raises(Interrupted):
        interrupter.call(lambda: begun.append(None))
    assert begun == []


def test_what_waits_is_left_behind_at_once(interrupter: Interrupter) -> None:
    begun, over = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        over.wait(WAIT_SECONDS)

    stopper = stop_later(interrupter, begun)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        interrupter.call(wait)
    assert time.monotonic() - started < SOON_SECONDS
    over.set()
    stopper.join(WAIT_SECONDS)


def test_what_ends_within_its_patience_has_ended(interrupter: Interrupter) -> None:
    begun = threading.Event()

    def end_when_stopped() -> str:
        begun.set()
        while True:
            try:
                interrupter.checkpoint()
            except Interrupted:
                return "tidied up"

    stopper = stop_later(interrupter, begun)
    assert interrupter.call(end_when_stopped, lambda: WAIT_SECONDS) == "tidied up"
    stopper.join(WAIT_SECONDS)


def test_what_fails_after_a_stop_was_interrupted(interrupter: Interrupter) -> None:
    def stop_and_fail() -> None:
        interrupter.stop("it was told to stop")
        raise ZeroDivisionError

    with pytest.raises(Interrupted, match="because it was told to stop"):
        interrupter.call(stop_and_fail, lambda: WAIT_SECONDS)


def test_patience_may_run_out_later(interrupter: Interrupter) -> None:
    """It is asked again and again, since the work goes on."""
    begun, over = threading.Event(), threading.Event()
    asked: list[float] = []

    def patience() -> float:
        asked.append(WAIT_SECONDS if len(asked) < 3 else 0.0)
        return asked[-1]

    def wait() -> None:
        begun.set()
        over.wait(WAIT_SECONDS)

    stopper = stop_later(interrupter, begun)
    with pytest.raises(Interrupted):
        interrupter.call(wait, patience)
    assert asked == [WAIT_SECONDS] * 3 + [0.0]
    over.set()
    stopper.join(WAIT_SECONDS)
