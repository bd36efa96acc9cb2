"""The record of the unlock's state."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from loader.errors import DiskSpace
from loader.files import FileIdentity
from loader.unlock.progress import UnlockProgress
from loader.unlock_state import AT_REST, RUN_STEPS, STEPS, Failure, Step, UnlockRecord, UnlockState, _UnlockStateHolder

ARCHIVE = FileIdentity(device=1, inode=2, size=3, modified_ns=4)
OTHER_ARCHIVE = FileIdentity(device=1, inode=5, size=3, modified_ns=4)
FAILURE = Failure("INTERNAL", False, "A hint.")
THREADS = 50
ROUNDS = 1000
WAIT_SECONDS = 30

ACTIVE = sorted(set(UnlockState) - AT_REST)


def start(holder: _UnlockStateHolder) -> UnlockProgress | None:
    """Start a run; return its progress, or None if a run is active already."""
    progress = UnlockProgress(STEPS)
    try:
        holder.start(progress)
    except RuntimeError:
        return None
    return progress


def record(holder: _UnlockStateHolder) -> UnlockRecord:
    return holder.snapshot()[0]


def started() -> tuple[_UnlockStateHolder, UnlockProgress]:
    holder = _UnlockStateHolder()
    progress = start(holder)
    assert progress is not None
    progress.expect(10)
    return holder, progress


def test_there_are_these_seven_states() -> None:
    assert [str(state) for state in UnlockState] == [
        *("idle", "authenticating", "downloading_key", "decrypting", "loading_images", "ready", "error")
    ]


def test_a_new_holder_is_idle_without_error_and_progress() -> None:
    holder = _UnlockStateHolder()
    assert holder.get() == (UnlockState.IDLE, None)
    assert holder.state is UnlockState.IDLE
    assert holder.snapshot() == (UnlockRecord(), None)


def test_set_replaces_the_whole_record() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.ERROR, "It failed.", failure=FAILURE)
    assert holder.get() == (UnlockState.ERROR, "It failed.")
    assert record(holder).failure == FAILURE
    holder.set(UnlockState.READY, archive=ARCHIVE)
    assert holder.get() == (UnlockState.READY, None)
    assert holder.state is UnlockState.READY
    assert record(holder) == UnlockRecord(UnlockState.READY, None, None, ARCHIVE)


def test_a_start_keeps_the_prior_error_until_the_run_replaces_it() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.ERROR, "It failed.", failure=FAILURE)
    progress = start(holder)
    assert progress is not None
    assert record(holder) == UnlockRecord(UnlockState.AUTHENTICATING, "It failed.", FAILURE, None, progress)


def test_a_failure_keeps_the_words_of_an_error_and_no_exception() -> None:
    kept = Failure.of(DiskSpace("The disk is full.", hint="A hint of its own."))
    assert kept == Failure("DISK_SPACE", True, "A hint of its own.")
    assert not any(isinstance(value, BaseException) for value in vars(kept).values())


def test_the_progress_follows_the_states_of_its_run() -> None:
    holder, progress = started()
    assert progress.report().step == Step(1, 4, "authenticating")
    holder.set(UnlockState.DECRYPTING)
    assert progress.report().step == Step(3, 4, "decrypting")
    holder.set(UnlockState.LOADING_IMAGES)
    holder.set(UnlockState.READY)
    assert (progress.report().percent, progress.report().bytes_done) == (100, progress.report().bytes_total)
    assert list(progress.report().duration_seconds) == ["authenticating", "decrypting", "loading_images"]


def test_the_progress_of_a_failed_run_stays() -> None:
    holder, progress = started()
    holder.set(UnlockState.DECRYPTING)
    progress.reach(5)
    holder.set(UnlockState.ERROR, "It failed.", failure=FAILURE)
    _, report = holder.snapshot()
    assert report is not None
    assert (report.step.name, report.percent, report.bytes_done) == ("decrypting", 50, 5)


def test_a_state_that_was_set_without_a_run_has_no_progress() -> None:
    """For example `ready` without an archive: the failed run before it did not reach that state."""
    holder, progress = started()
    holder.set(UnlockState.ERROR, "It failed.", failure=FAILURE)
    ended = progress.report()
    holder.set(UnlockState.READY)
    assert holder.snapshot() == (UnlockRecord(UnlockState.READY), None)
    assert progress.report() == ended


@pytest.mark.parametrize("state", sorted(AT_REST - {UnlockState.READY}))
def test_a_run_starts_from_idle_and_from_error(state: UnlockState) -> None:
    holder = _UnlockStateHolder()
    holder.set(state)
    assert holder.may_start(ARCHIVE)
    assert start(holder)
    assert holder.state is UnlockState.AUTHENTICATING


@pytest.mark.parametrize("state", ACTIVE)
def test_no_second_run_starts_while_one_is_active(state: UnlockState) -> None:
    holder = _UnlockStateHolder()
    holder.set(state)
    assert not holder.may_start(ARCHIVE)
    assert not holder.may_start(ARCHIVE, again=True)
    assert not start(holder)
    assert holder.state is state


def test_ready_refuses_only_the_archive_that_was_unlocked() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.READY, archive=ARCHIVE)
    assert holder.is_ready_for(ARCHIVE)
    assert not holder.may_start(ARCHIVE)
    assert holder.may_start(ARCHIVE, again=True)
    assert not holder.is_ready_for(OTHER_ARCHIVE)
    assert holder.may_start(OTHER_ARCHIVE)
    assert holder.state is UnlockState.READY


def test_an_archive_that_appears_after_ready_without_archive_may_be_unlocked() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.READY)
    assert holder.may_start(ARCHIVE)


@pytest.mark.parametrize("state", sorted(AT_REST))
def test_ready_without_a_run_replaces_a_state_at_rest(state: UnlockState) -> None:
    holder = _UnlockStateHolder()
    holder.set(state, "It failed.", failure=FAILURE)
    assert holder.try_ready(proven=False).state is UnlockState.READY
    assert holder.snapshot() == (UnlockRecord(UnlockState.READY), None)


def test_ready_without_a_run_does_not_replace_an_active_run() -> None:
    holder, progress = started()
    assert holder.try_ready(proven=True).state is UnlockState.AUTHENTICATING
    assert record(holder).progress is progress


@pytest.fixture
def hasty_interpreter() -> Iterator[None]:
    """Make Python switch threads as often as it can."""
    normal = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(normal)


@pytest.mark.usefixtures("hasty_interpreter")
def test_of_many_threads_exactly_one_starts() -> None:
    holders = [_UnlockStateHolder() for _ in range(ROUNDS)]
    barrier = threading.Barrier(THREADS)

    def start_all() -> list[bool]:
        barrier.wait(WAIT_SECONDS)
        return [start(holder) is not None for holder in holders]

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(start_all) for _ in range(THREADS)]
        starts = [sum(results) for results in zip(*(future.result(WAIT_SECONDS) for future in futures), strict=True)]
    assert starts == [1] * ROUNDS


@pytest.mark.usefixtures("hasty_interpreter")
def test_a_run_that_starts_at_the_same_time_as_ready_without_a_run_stays() -> None:
    holders = [_UnlockStateHolder() for _ in range(ROUNDS)]
    barrier = threading.Barrier(2)

    def each(work: str) -> None:
        barrier.wait(WAIT_SECONDS)
        for holder in holders:
            holder.try_ready(proven=False) if work == "ready" else start(holder)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(each, work) for work in ("ready", "start")]:
            future.result(WAIT_SECONDS)
    assert {holder.state for holder in holders} == {UnlockState.AUTHENTICATING}


def test_a_reader_gets_state_and_error_of_the_same_moment() -> None:
    holder = _UnlockStateHolder()
    texts = {UnlockState.ERROR: "It failed.", UnlockState.READY: None}
    holder.set(UnlockState.READY)
    done = threading.Event()

    def write() -> None:
        for _ in range(10_000):
            for state, text in texts.items():
                holder.set(state, text)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(holder.get())
    writer.join(WAIT_SECONDS)
    assert seen <= set(texts.items())


def test_the_check_is_a_step_of_the_progress_and_no_state() -> None:
    holder, progress = _UnlockStateHolder(), UnlockProgress(RUN_STEPS)
    holder.start(progress)
    assert holder.state is UnlockState.AUTHENTICATING
    assert progress.report().step == Step(1, 5, "checking")
    holder.set(UnlockState.AUTHENTICATING)
    assert progress.report().step == Step(2, 5, "authenticating")
    assert "checking" not in list(UnlockState)
