"""What an unlock tells while an engine unpacks and says nothing. The wire holds back what a real engine says."""

from __future__ import annotations

from typing import Any

import pytest

from loader.cli.watch import SILENT_SECONDS, _bar_of, _lines_of
from loader.unlock import progress as unlock_progress
from loader.unlock.progress import UnlockProgress
from tests.support.archives import Packed
from tests.support.processes import poll
from tests.support.unlocking import READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

SECONDS = 30.0
MIB = 1 << 20


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(unlock_progress, "time", made)
    return made


def test_the_silence_is_counted_from_the_last_byte_or_step(clock: Clock) -> None:
    progress = UnlockProgress(("one", "two"))
    progress.expect(100)
    clock.now += 3
    assert progress.report().silent_seconds == 3
    progress.enter("two")
    assert progress.report().silent_seconds == 0
    progress.reach(10, "It works.")
    clock.now += 7
    assert (progress.report().silent_seconds, progress.report().activity) == (7, "It works.")
    progress.reach(10, "It still works.")
    assert (progress.report().silent_seconds, progress.report().activity) == (7, "It still works.")
    progress.reach(11, "It works again.")
    assert progress.report().silent_seconds == 0
    clock.now += 5
    progress.end(well=True)
    clock.now += 5
    assert (progress.report().silent_seconds, progress.report().activity) == (0, None)


def test_a_silent_engine_is_said_to_unpack(rig: Rig, packed: Packed) -> None:
    image, size = packed.images[0].reference, round(packed.sent[0] / 1e6)
    rig.wire.hold_response()
    rig.device.put(packed.path)
    rig.operator.post()
    rig.wire.wait_until_held()
    unpacking = f"The engine has all {size} MB of {image}, and unpacks them."
    poll(lambda: rig.operator.document()["activity"] == unpacking, SECONDS, "the engine is said to unpack")
    first = rig.operator.document()
    poll(lambda: rig.operator.document()["silent_seconds"] > first["silent_seconds"], SECONDS, "the silence is counted")
    assert (first["state"], first["step"]["name"]) == ("loading_images", "loading_images")
    rig.wire.release()
    assert rig.operator.rest() == READY
    assert (rig.operator.document()["activity"], rig.operator.document()["silent_seconds"]) == (None, 0)


def test_a_plan_during_an_unlock_only_looks_at_the_engine(rig: Rig, packed: Packed) -> None:
    """At rest it also tries what a proxy might forbid, loads included, which a busy engine would answer late."""
    rig.device.put(packed.path)
    rig.operator.get("/unlock/plan")
    assert len(rig.loads) == 1
    rig.wire.hold_response()
    rig.operator.post()
    rig.wire.wait_until_held()
    rig.wire.forget()
    plan = rig.operator.get("/unlock/plan")
    assert (plan["done"], plan["warnings"]) == (False, [])
    assert {request.method for request in rig.wire.requests} == {"GET"}
    rig.wire.release()
    assert rig.operator.rest() == READY


def test_an_engine_that_still_gets_an_image_is_not_said_to_unpack(rig: Rig, packed: Packed) -> None:
    rig.wire.hold_upload(after=MIB)
    rig.device.put(packed.path)
    rig.operator.post()
    rig.wire.wait_until_held()
    activity = f"The engine gets {packed.images[0].reference}, {round(packed.sent[0] / 1e6)} MB."
    poll(lambda: rig.operator.document()["activity"] == activity, SECONDS, "the engine is said to get the image")
    rig.wire.release()
    assert rig.operator.rest() == READY


def status(silent_seconds: float, activity: str | None) -> dict[str, Any]:
    step = {"number": 5, "of": 5, "name": "loading_images"}
    figures = {"percent": 66, "rate": 0, "eta_seconds": None}
    return {"step": step, "silent_seconds": silent_seconds, "activity": activity, **figures}


def test_the_command_shows_that_a_silent_engine_works() -> None:
    unpacking = "The engine has all 812 MB of app:1, and unpacks them."
    assert _bar_of(status(SILENT_SECONDS, unpacking)).endswith(f"66 %  5 s: {unpacking}")
    assert _bar_of(status(42, unpacking)).endswith(f"66 %  42 s: {unpacking}")
    assert _bar_of(status(SILENT_SECONDS - 1, unpacking)).endswith("66 %  5/5 loading_images  0 B/s")
    assert _bar_of(status(42, None)).endswith("66 %  5/5 loading_images  0 B/s")
    step = "step 5 of 5: loading_images"
    assert list(_lines_of(status(42, unpacking))) == [step, unpacking]
    assert list(_lines_of(status(1, unpacking))) == list(_lines_of(status(42, None))) == [step]
