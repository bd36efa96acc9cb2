"""Work done ahead: in order, each once, on helpers and in the consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from loader.crypto import work_ahead
from loader.crypto.work_ahead import MAX_CORES, WorkAhead

SECONDS = 20.0


def piece(number: int) -> memoryview:
    return memoryview(bytes([number]))


@pytest.mark.usefixtures("cores")
def test_results_come_in_order_each_done_once() -> None:
    work, done = WorkAhead[memoryview](), []

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
    work = WorkAhead[memoryview]()

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

    work = WorkAhead[memoryview]()
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
    work = WorkAhead[memoryview]()

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
    helpers = work_ahead._helpers()
    assert helpers is not None
    helpers.shutdown()
    work = WorkAhead[memoryview]()
    work.put(lambda: piece(7))
    assert work.get() == piece(7)


@pytest.mark.parametrize(("cores", "helpers"), [(1, 0), (2, 1), (8, 7)], indirect=["cores"])
@pytest.mark.usefixtures("cores")
def test_a_helper_for_each_further_core(helpers: int) -> None:
    pool = work_ahead._helpers()
    assert (0 if pool is None else pool._max_workers) == helpers


def test_a_machine_of_many_cores_has_a_few_helpers() -> None:
    assert 1 <= work_ahead.CORES <= MAX_CORES


@pytest.mark.usefixtures("cores")
def test_results_may_be_of_any_type_and_none() -> None:
    work = WorkAhead[int | None]()
    for value in (None, 7, 0):
        work.put(lambda value=value: value)  # type: ignore[misc]
    assert [work.get() for _ in range(3)] == [None, 7, 0]


@pytest.mark.parametrize("cores", [2], indirect=True)
@pytest.mark.usefixtures("cores")
def test_a_failure_of_later_work_waits_for_its_turn_in_the_consumer_too() -> None:
    """The consumer meets it while it works beside the one helper, which is busy with the first work."""
    begun, go_on = threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert go_on.wait(SECONDS)
        return 1

    def second() -> int:
        go_on.set()
        raise ValueError("the second")

    work = WorkAhead[int]()
    work.put(first)
    assert begun.wait(SECONDS), "the one helper has the first"
    work.put(second)
    assert work.get() == 1
    with pytest.raises(ValueError, match="the second"):
        work.get()


@pytest.mark.parametrize("cores", [2], indirect=True)
@pytest.mark.usefixtures("cores")
def test_one_consumer_works_beside_the_helpers_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than cores would spend their time on taking the GIL from each other."""
    begun, go_on, by = threading.Event(), threading.Event(), []

    def first() -> int:
        begun.set()
        assert go_on.wait(SECONDS)
        return 1

    work = WorkAhead[int]()
    work.put(first)
    assert begun.wait(SECONDS), "the one helper has the first"

    def later() -> int:
        by.append(threading.current_thread())
        return 2

    work.put(later)
    helped = work._pending[0].helped
    assert helped is not None
    result = helped.result

    def wait() -> int:
        go_on.set()
        return result()

    monkeypatch.setattr(helped, "result", wait)
    with work_ahead._beside_helpers:
        assert [work.get(), work.get()] == [1, 2]
    assert threading.current_thread() not in by
