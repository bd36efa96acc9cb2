"""The one record of where an unlock stands."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from loader.errors import DiskSpace, LoginThrottled
from loader.unlock.progress import Step, UnlockProgress
from loader.unlock_state import AT_REST, STEPS, ArchiveIdentity, Failure, UnlockRecord, UnlockState, _UnlockStateHolder

ARCHIVE = ArchiveIdentity(device=1, inode=2, size=3, modified_ns=4)
OTHER_ARCHIVE = ArchiveIdentity(device=1, inode=5, size=3, modified_ns=4)
FAILURE = Failure("INTERNAL", False, "A hint.")
THREADS = 50
ROUNDS = 1000
WAIT_SECONDS = 30

AT_WORK = sorted(set(UnlockState) - AT_REST)


def begin(holder: _UnlockStateHolder, archive: ArchiveIdentity) -> UnlockProgress | None:
    """Start a run that anybody may start; its progress."""
    started = holder.try_start(archive, UnlockProgress(STEPS), lambda: None)
    return started[0] if started else None


def test_the_states_are_these_seven_words() -> None:
    assert [str(state) for state in UnlockState] == [
        *("idle", "authenticating", "downloading_key", "decrypting", "loading_images", "ready", "error")
    ]


def record(holder: _UnlockStateHolder) -> UnlockRecord:
    return holder.snapshot()[0]


def started() -> tuple[_UnlockStateHolder, UnlockProgress]:
    holder = _UnlockStateHolder()
    progress = begin(holder, ARCHIVE)
    assert progress is not None
    progress.expect(10)
    return holder, progress


def test_a_new_holder_is_idle_and_knows_neither_error_nor_progress() -> None:
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
    progress = begin(holder, ARCHIVE)
    assert record(holder) == UnlockRecord(UnlockState.AUTHENTICATING, "It failed.", FAILURE, None, progress)


def test_of_an_error_only_words_are_kept_and_no_frame() -> None:
    error = DiskSpace("The disk is full.")
    error.hint = "A hint of its own."
    kept = Failure.of(error)
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


def test_a_run_that_failed_stays_where_it_was() -> None:
    holder, progress = started()
    holder.set(UnlockState.DECRYPTING)
    progress.reach(15)
    holder.set(UnlockState.ERROR, "It failed.", failure=FAILURE)
    _, report = holder.snapshot()
    assert report is not None
    assert (report.step.name, report.percent, report.bytes_done) == ("decrypting", 50, 15)


def test_what_no_run_has_reached_has_no_progress() -> None:
    """As when the images are found in the engine after the archive has gone: the failed run before is no part of it."""
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
    assert begin(holder, ARCHIVE)
    assert holder.state is UnlockState.AUTHENTICATING


@pytest.mark.parametrize("state", AT_WORK)
def test_no_second_run_starts_beside_one_at_work(state: UnlockState) -> None:
    holder = _UnlockStateHolder()
    holder.set(state)
    assert not begin(holder, ARCHIVE)
    assert holder.state is state


def test_ready_refuses_the_archive_that_it_was_reached_for_and_no_other() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.READY, archive=ARCHIVE)
    assert not begin(holder, ARCHIVE)
    assert holder.state is UnlockState.READY
    assert begin(holder, OTHER_ARCHIVE)


def test_an_archive_that_appears_after_ready_was_reached_without_one_is_unlocked() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.READY)
    assert begin(holder, ARCHIVE)


@pytest.mark.parametrize("state", sorted(AT_REST))
def test_ready_without_a_run_replaces_what_is_at_rest(state: UnlockState) -> None:
    holder = _UnlockStateHolder()
    holder.set(state, "It failed.", failure=FAILURE)
    assert holder.try_ready() is UnlockState.READY
    assert holder.snapshot() == (UnlockRecord(UnlockState.READY), None)


def test_ready_without_a_run_does_not_replace_a_run() -> None:
    holder, progress = started()
    assert holder.try_ready() is UnlockState.AUTHENTICATING
    assert record(holder).progress is progress


@pytest.fixture
def hasty_interpreter() -> Iterator[None]:
    """Threads change places as often as they can."""
    normal = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(normal)


@pytest.mark.usefixtures("hasty_interpreter")
def test_of_many_threads_exactly_one_starts() -> None:
    holders = [_UnlockStateHolder() for _ in range(ROUNDS)]
    barrier = threading.Barrier(THREADS)

    def start() -> list[bool]:
        barrier.wait(WAIT_SECONDS)
        return [begin(holder, ARCHIVE) is not None for holder in holders]

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(start) for _ in range(THREADS)]
        started = [sum(answers) for answers in zip(*(future.result(WAIT_SECONDS) for future in futures), strict=True)]
    assert started == [1] * ROUNDS


@pytest.mark.usefixtures("hasty_interpreter")
def test_a_run_that_starts_beside_ready_without_a_run_stays() -> None:
    holders = [_UnlockStateHolder() for _ in range(ROUNDS)]
    barrier = threading.Barrier(2)

    def each(work: str) -> None:
        barrier.wait(WAIT_SECONDS)
        for holder in holders:
            holder.try_ready() if work == "ready" else begin(holder, ARCHIVE)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(each, work) for work in ("ready", "start")]:
            future.result(WAIT_SECONDS)
    assert {holder.state for holder in holders} == {UnlockState.AUTHENTICATING}


def test_state_and_error_of_a_reader_belong_together() -> None:
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


def test_only_who_starts_a_run_asks_to_be_admitted() -> None:
    holder = _UnlockStateHolder()
    asked: list[str] = []

    def admit() -> str:
        asked.append("a login")
        return "admitted"

    started = holder.try_start(ARCHIVE, UnlockProgress(STEPS), admit)
    assert started is not None
    assert started[1] == "admitted"
    assert holder.try_start(ARCHIVE, UnlockProgress(STEPS), admit) is None
    holder.set(UnlockState.READY, archive=ARCHIVE)
    assert holder.try_start(ARCHIVE, UnlockProgress(STEPS), admit) is None
    assert asked == ["a login"]


def test_who_is_not_admitted_has_begun_nothing() -> None:
    holder = _UnlockStateHolder()
    holder.set(UnlockState.ERROR, "as before")

    def refuse() -> None:
        raise LoginThrottled("Too early.", 10)

    with pytest.raises(LoginThrottled):
        holder.try_start(ARCHIVE, UnlockProgress(STEPS), refuse)
    assert holder.get() == (UnlockState.ERROR, "as before")
    assert begin(holder, ARCHIVE) is not None
