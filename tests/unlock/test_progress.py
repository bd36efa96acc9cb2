"""The progress of an unlock: how it is counted, and what `GET /unlock/status` reports during real runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loader.unlock import progress as unlock_progress
from loader.unlock.progress import RATE_WINDOW_SECONDS, UnlockProgress
from loader.unlock_state import Step
from tests.support.archives import APP, Packed, remove_all_images
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.processes import poll
from tests.support.unlocking import AT_REST, READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
STEPS = ("one", "two")
STEPS_OF_UNLOCK = {"checking", "authenticating", "downloading_key", "decrypting", "loading_images"}
SLOW_SECONDS = 60.0
FRESH_SECONDS = 5.0
PROGRESS_FIELDS = {
    *("step", "bytes_done", "bytes_total", "percent", "rate", "eta_seconds", "activity", "silent_seconds"),
    *("started_at", "updated_at", "duration_seconds"),
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the progress."""
    clock = Clock()
    monkeypatch.setattr(unlock_progress, "time", clock)
    return clock


@pytest.fixture
def progress(clock: Clock) -> UnlockProgress:
    """The progress of a run with 300 bytes to count."""
    assert clock.now
    progress = UnlockProgress(STEPS)
    progress.expect(300)
    return progress


def test_before_the_size_is_known_the_progress_is_empty(clock: Clock) -> None:
    progress = UnlockProgress(STEPS)
    clock.now += 1
    report = progress.report()
    assert (report.bytes_done, report.bytes_total, report.percent) == (0, 0, 0)
    assert (report.step, report.rate, report.eta_seconds) == (Step(1, 2, "one"), 0, None)


def test_the_number_of_bytes_never_decreases(progress: UnlockProgress) -> None:
    assert progress.report().bytes_total == 300
    for reached, done in [(10, 10), (150, 150), (140, 150), (299, 299), (10_000, 300), (0, 300)]:
        progress.reach(reached)
        assert progress.report().bytes_done == done


def test_more_bytes_to_do_leave_the_percent_until_it_is_true_again(progress: UnlockProgress) -> None:
    progress.reach(150)
    progress.expect(600)
    for done, percent in [(151, 50), (300, 50), (306, 51), (600, 99)]:
        progress.reach(done)
        assert (progress.report().percent, progress.report().bytes_total) == (percent, 600)


def test_only_a_run_that_succeeded_is_at_100_percent(progress: UnlockProgress) -> None:
    progress.reach(300)
    assert progress.report().percent == 99
    progress.end(well=True)
    assert progress.report().percent == 100


def test_a_run_that_failed_stays_below_100_percent(progress: UnlockProgress) -> None:
    progress.reach(300)
    progress.end(well=False)
    assert progress.report().percent == 99


def test_an_empty_archive_ends_at_100_percent() -> None:
    progress = UnlockProgress(STEPS)
    progress.expect(0)
    progress.reach(0)
    assert progress.report().percent == 0
    progress.end(well=True)
    assert progress.report().percent == 100


def test_rate_and_eta_are_measured_over_the_last_seconds(progress: UnlockProgress, clock: Clock) -> None:
    clock.now += 100  # the loader waits for the API
    for done in range(0, 80, 10):
        progress.reach(done)
        clock.now += 1
    report = progress.report()
    assert (report.rate, report.eta_seconds) == (10, 23.0)


def test_without_new_bytes_there_is_no_rate_and_no_eta(progress: UnlockProgress, clock: Clock) -> None:
    for done in (10, 20, 30):
        progress.reach(done)
        clock.now += 1
    clock.now += RATE_WINDOW_SECONDS + 1
    assert (progress.report().rate, progress.report().eta_seconds) == (0, None)
    progress.reach(60)
    clock.now += 1
    assert progress.report().rate > 0


def test_the_number_of_samples_is_bounded(progress: UnlockProgress, clock: Clock) -> None:
    for done in range(10_000):
        progress.reach(done)
        clock.now += 1
    assert len(progress._samples) <= RATE_WINDOW_SECONDS + 2


def test_steps_are_numbered_and_timed(progress: UnlockProgress, clock: Clock) -> None:
    clock.now += 2
    progress.enter("one")
    progress.enter("two")
    clock.now += 3
    assert progress.report().step == Step(2, 2, "two")
    assert progress.report().duration_seconds == {"one": 2.0, "two": 3.0}
    progress.end(well=True)
    clock.now += 60
    assert progress.report().duration_seconds == {"one": 2.0, "two": 3.0}
    assert (progress.report().rate, progress.report().eta_seconds) == (0, None)


def test_the_report_of_a_run_that_has_ended_stays() -> None:
    progress = UnlockProgress(STEPS)
    progress.end(well=True)
    report = progress.report()
    poll(lambda: datetime.now(UTC) > datetime.fromisoformat(report.updated_at), FRESH_SECONDS, "time goes on")
    assert progress.report() == report


def sampled(rig: Rig, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Poll the status until `until` accepts one, and return all of them."""
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        seen.append(rig.operator.document())
        seen[-1]["age"] = datetime.now(UTC).timestamp() - datetime.fromisoformat(seen[-1]["updated_at"]).timestamp()
        return until(seen[-1])

    poll(look, SLOW_SECONDS, "the unlock goes on")
    return seen


def preparation(packed: Packed) -> int:
    """Return the bytes that mode tar writes to the tar."""
    return sum(packed.sent)


def at_rest(document: dict[str, Any]) -> bool:
    return document["state"] in AT_REST


def assert_never_less(values: list[Any]) -> None:
    assert values == sorted(values)


def test_before_any_run_the_fields_are_null(rig: Rig) -> None:
    document = rig.operator.document()
    assert (document["state"], document["error"], document["code"]) == ("idle", None, None)
    errors = {"error", "code", "retryable", "hint"}
    assert set(document) == {"state", "authenticated", "proven", *errors, *PROGRESS_FIELDS}
    told = {name: value for name, value in document.items() if value is not None}
    assert told == {"state": "idle", "authenticated": False, "proven": False}


def test_a_slow_run_reports_its_progress(rig: Rig, packed: Packed) -> None:
    rig.wire.slow_upload(pause_seconds=0.04)
    rig.device.put(packed.path)
    rig.operator.post()
    seen = sampled(rig, at_rest)
    assert seen[-1]["state"] == "ready"
    total = preparation(packed) + 2 * sum(packed.sent)

    assert {document["bytes_total"] for document in seen} <= {0, total}
    assert_never_less([document["bytes_total"] for document in seen])
    for name in ("bytes_done", "percent", "updated_at"):
        assert_never_less([document[name] for document in seen])
    assert_never_less([document["step"]["number"] for document in seen])
    assert {(document["step"]["of"], document["started_at"]) for document in seen} == {(5, seen[0]["started_at"])}
    names = [(document["step"]["name"], document["state"]) for document in seen[:-1]]
    assert all(name == state for name, state in names if name != "checking")
    assert {state for name, state in names if name == "checking"} <= {"authenticating"}
    assert all(document["percent"] < 100 for document in seen[:-1])
    assert max(document["age"] for document in seen[:-1]) < FRESH_SECONDS

    loading = [document for document in seen if document["state"] == "loading_images"]
    assert len({document["bytes_done"] for document in loading}) > 5
    assert any(document["rate"] > 0 and document["eta_seconds"] is not None for document in loading)
    last = seen[-1]
    assert (last["percent"], last["bytes_done"], last["rate"], last["eta_seconds"]) == (100, total, 0, None)
    assert set(last["duration_seconds"]) == STEPS_OF_UNLOCK
    assert last["duration_seconds"]["loading_images"] > 1
    ended = datetime.fromisoformat(last["updated_at"]) - datetime.fromisoformat(last["started_at"])
    assert sum(last["duration_seconds"].values()) == pytest.approx(ended.total_seconds(), abs=1)
    assert (last["error"], last["code"], last["retryable"], last["hint"]) == (None, None, None, None)


def test_the_status_is_current_while_the_engine_is_silent(rig: Rig, packed: Packed) -> None:
    rig.wire.hold_response()
    rig.device.put(packed.path)
    remove_all_images(rig.engine)
    rig.operator.post()
    rig.wire.wait_until_held()
    until = time.monotonic() + RATE_WINDOW_SECONDS + 1
    seen = sampled(rig, lambda _: time.monotonic() > until)
    assert {document["state"] for document in seen} == {"loading_images"}
    assert max(document["age"] for document in seen) < FRESH_SECONDS
    assert max(document["percent"] for document in seen) < 100
    # The engine has taken the first tar, and does not report what it unpacks.
    assert seen[-1]["bytes_done"] == preparation(packed) + packed.sent[0]
    assert (seen[-1]["rate"], seen[-1]["eta_seconds"]) == (0, None)
    rig.wire.release()
    assert rig.operator.rest() == READY


def test_a_run_that_failed_reports_its_step(rig: Rig, packed: Packed) -> None:
    assert rig.unlock(packed.path, "a wrong password").code == "LOGIN_REJECTED"
    document = rig.operator.document()
    assert document["step"] == {"number": 2, "of": 5, "name": "authenticating"}
    assert (document["percent"], document["bytes_done"], document["eta_seconds"]) == (0, 0, None)
    assert set(document["duration_seconds"]) == {"checking", "authenticating"}


def test_a_run_that_fails_before_the_login_has_failed_in_its_check(rig: Rig, tmp_path: Path) -> None:
    assert rig.unlock(seal(tmp_path / "other.enc", [HandmadeImage(APP)], version="2")).code == "VERSION_MISMATCH"
    document = rig.operator.document()
    assert document["step"] == {"number": 1, "of": 5, "name": "checking"}
    assert list(document["duration_seconds"]) == ["checking"]


def test_a_run_that_finds_its_images_ends_at_100_percent(rig: Rig, packed: Packed) -> None:
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    assert rig.unlock(packed.path).state == "ready"
    document = rig.operator.document()
    assert document["percent"] == 100
    assert document["step"] == {"number": 1, "of": 5, "name": "checking"}
    assert list(document["duration_seconds"]) == ["checking"]
