"""The interrupter, which may leave calls behind."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest

from loader.errors import Interrupted
from loader.unlock.interrupter import Interrupter
from tests.support.processes import poll

WAIT_SECONDS = 10.0
SOON_SECONDS = 2.0
MANY = 200

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def interrupter() -> Interrupter:
    return Interrupter()


def stop_later(interrupter: Interrupter, started_work: threading.Event) -> threading.Thread:
    def stop() -> None:
        started_work.wait(WAIT_SECONDS)
        interrupter.stop("it was told to stop")

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def test_call_returns_the_result(interrupter: Interrupter) -> None:
    assert interrupter.call(lambda: 7) == 7


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), TimeoutError("its own"), Interrupted("its own")], ids=repr)
def test_call_raises_the_exception_of_the_work(interrupter: Interrupter, error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        interrupter.call(fail)
    assert raised.value is error


def test_a_result_at_the_moment_of_a_check_is_no_timeout(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.unlock.interrupter.POLL_SECONDS", 1e-4)

    def work() -> int:
        time.sleep(2e-4)  # about as long as one check takes
        return 7

    assert [interrupter.call(work) for _ in range(MANY)] == [7] * MANY


def test_the_work_runs_in_the_context_of_the_caller(interrupter: Interrupter) -> None:
    VARIABLE.set("set")
    assert interrupter.call(VARIABLE.get) == "set"


def test_after_a_stop_no_work_starts(interrupter: Interrupter) -> None:
    interrupter.checkpoint()
    interrupter.stop("it was told to stop")
    with pytest.raises(Interrupted):
        interrupter.checkpoint()
    started_work: list[None] = []
    with pytest.raises(Interrupted):
        interrupter.call(lambda: started_work.append(None))
    assert started_work == []


def test_waiting_work_is_left_behind_at_once(interrupter: Interrupter) -> None:
    started_work, over = threading.Event(), threading.Event()

    def wait() -> None:
        started_work.set()
        over.wait(WAIT_SECONDS)

    stopper = stop_later(interrupter, started_work)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        interrupter.call(wait)
    assert time.monotonic() - started < SOON_SECONDS
    over.set()
    stopper.join(WAIT_SECONDS)


def test_work_that_ends_within_the_patience_returns_its_result(interrupter: Interrupter) -> None:
    started_work = threading.Event()

    def end_when_stopped() -> str:
        started_work.set()
        while True:
            try:
                interrupter.checkpoint()
            except Interrupted:
                return "tidied up"

    stopper = stop_later(interrupter, started_work)
    assert interrupter.call(end_when_stopped, lambda: WAIT_SECONDS) == "tidied up"
    stopper.join(WAIT_SECONDS)


def test_work_that_fails_after_a_stop_was_interrupted(interrupter: Interrupter) -> None:
    def stop_and_fail() -> None:
        interrupter.stop("it was told to stop")
        raise ZeroDivisionError

    with pytest.raises(Interrupted, match="because it was told to stop"):
        interrupter.call(stop_and_fail, lambda: WAIT_SECONDS)


def test_patience_is_asked_again_at_each_check(interrupter: Interrupter) -> None:
    """The patience is asked at each check, because the work goes on."""
    started_work, over = threading.Event(), threading.Event()
    asked: list[float] = []

    def patience() -> float:
        asked.append(WAIT_SECONDS if len(asked) < 3 else 0.0)
        return asked[-1]

    def wait() -> None:
        started_work.set()
        over.wait(WAIT_SECONDS)

    stopper = stop_later(interrupter, started_work)
    with pytest.raises(Interrupted):
        interrupter.call(wait, patience)
    assert asked == [WAIT_SECONDS] * 3 + [0.0]
    over.set()
    stopper.join(WAIT_SECONDS)


def test_work_that_was_left_behind_cannot_commit(interrupter: Interrupter) -> None:
    started_work, over = threading.Event(), threading.Event()
    refused: list[Interrupted] = []

    def work() -> None:
        started_work.set()
        over.wait(WAIT_SECONDS)
        try:
            interrupter.commit()
        except Interrupted as exc:
            refused.append(exc)

    stopper = stop_later(interrupter, started_work)
    with pytest.raises(Interrupted):
        interrupter.call(work)
    over.set()
    poll(lambda: refused, WAIT_SECONDS, "the work was refused")
    stopper.join(WAIT_SECONDS)


def test_work_that_has_committed_is_not_left_behind(interrupter: Interrupter) -> None:
    over = threading.Event()

    def work() -> str:
        interrupter.commit()
        interrupter.stop("it was told to stop")
        over.wait(WAIT_SECONDS)
        return "done"

    def patience() -> float:
        over.set()
        return 0.0

    assert interrupter.call(work, patience) == "done"


def test_work_may_commit_within_its_patience(interrupter: Interrupter) -> None:
    def work() -> str:
        interrupter.stop("it was told to stop")
        interrupter.commit()
        return "done"

    assert interrupter.call(work, lambda: WAIT_SECONDS) == "done"
