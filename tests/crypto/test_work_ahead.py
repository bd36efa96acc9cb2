from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from loader.crypto import streaming_aead
from loader.crypto.streaming_aead import WorkAhead

SECONDS = 20.0


@pytest.fixture(params=[1, 2, 8], ids=["one-core", "two-cores", "eight-cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr("os.cpu_count", lambda: request.param)
    streaming_aead._helpers.cache_clear()
    yield request.param
    if (helpers := streaming_aead._helpers()) is not None:
        helpers.shutdown()
    streaming_aead._helpers.cache_clear()


def piece(number: int) -> memoryview:
    return memoryview(bytes([number]))


@pytest.mark.usefixtures("cores")
def test_results_come_in_order_each_done_once() -> None:
    work, done = WorkAhead(), []

    def do(number: int) -> memoryview:
        done.append(number)
        return piece(number)

    results = []
    for number in range(200):
        work.put(lambda number=number: do(number))  # type: ignore[misc]
        if len(work) == 3:
            results.append(work.get())
    while work:
        results.append(work.get())
    assert results == [piece(number) for number in range(200)]
    assert sorted(done) == list(range(200))


@pytest.mark.usefixtures("cores")
def test_a_failure_is_raised_in_its_turn_and_affects_no_other_result() -> None:
    work = WorkAhead()

    def fail() -> memoryview:
        raise ValueError("the second")

    for do in (lambda: piece(1), fail, lambda: piece(3)):
        work.put(do)
    assert work.get() == piece(1)
    with pytest.raises(ValueError, match="the second"):
        work.get()
    assert work.get() == piece(3)


@pytest.mark.parametrize("cores", [2], indirect=True)
@pytest.mark.usefixtures("cores")
def test_the_consumer_runs_work_that_no_helper_has_started() -> None:
    by, begun, go_on = [], threading.Event(), threading.Event()

    def first() -> memoryview:
        begun.set()
        assert go_on.wait(SECONDS)
        return piece(0)

    def later(number: int) -> Callable[[], memoryview]:
        def do() -> memoryview:
            by.append(threading.current_thread())
            if number == 2:
                go_on.set()
            return piece(number)

        return do

    work = WorkAhead()
    work.put(first)
    assert begun.wait(SECONDS), "the one helper has the first"
    work.put(later(1))
    work.put(later(2))
    assert [work.get() for _ in range(3)] == [piece(0), piece(1), piece(2)]
    assert by == [threading.current_thread()] * 2


@pytest.mark.parametrize("cores", [2], indirect=True)
@pytest.mark.usefixtures("cores")
def test_work_marked_alone_runs_in_the_consumer_when_its_result_is_wanted() -> None:
    by: list[threading.Thread] = []
    work = WorkAhead()

    def do() -> memoryview:
        by.append(threading.current_thread())
        return piece(0)

    work.put(do, alone=True)
    assert by == []
    assert work.get() == piece(0)
    assert by == [threading.current_thread()]


@pytest.mark.parametrize("cores", [2], indirect=True)
@pytest.mark.usefixtures("cores")
def test_the_consumer_does_all_work_after_the_helpers_have_ended() -> None:
    helpers = streaming_aead._helpers()
    assert helpers is not None
    helpers.shutdown()
    work = WorkAhead()
    work.put(lambda: piece(7))
    assert work.get() == piece(7)


@pytest.mark.parametrize(("cores", "helpers"), [(1, 0), (2, 1), (8, 3)], indirect=["cores"])
@pytest.mark.usefixtures("cores")
def test_a_helper_for_each_further_core_and_not_too_many(helpers: int) -> None:
    pool = streaming_aead._helpers()
    assert (0 if pool is None else pool._max_workers) == helpers
