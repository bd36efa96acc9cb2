"""Unlocks during which the loader is told to stop."""

from __future__ import annotations

from tests.support.archives import Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.unlocking import READY, Operator, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

GRACE_SECONDS = 30.0  # graceful_timeout in gunicorn.conf.py


def audit_codes(operator: Operator) -> list[str | None]:
    return [line["code"] for line in operator.loader.log_lines() if line.get("event") == "unlock"]


def assert_engine_works(unlock_device: UnlockDevice, docker: Engine) -> None:
    """A new loader, on the disk that the interrupted one has left, finishes the work."""
    assert unlock_device.start(docker.host).unlock() == READY


def test_a_load_ends_at_its_next_piece(
    unlock_device: UnlockDevice, wire: FaultyWire, docker: Engine, packed: Packed
) -> None:
    wire.slow_upload(pause_seconds=0.2)  # ten seconds and more for the whole tar
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host)
    operator.post()
    operator.wait_for("loading_images")
    assert operator.loader.stop() == 0
    assert audit_codes(operator) == ["INTERRUPTED"]
    assert not unlock_device.tar.exists()
    wire.heal()
    assert tags_of_tests(docker) == []
    assert docker.client.images.list(filters={"dangling": True}) == []
    assert_engine_works(unlock_device, docker)


def test_an_engine_that_is_silent_does_not_keep_the_loader_from_ending(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed
) -> None:
    wire.hold_answer()
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host)
    operator.post()
    wire.wait_until_held()
    # It has the whole tar: it is waited for, but not for longer than the grace period.
    assert operator.loader.process.stop(GRACE_SECONDS) == 0
    assert audit_codes(operator) == ["INTERRUPTED"]
    assert not unlock_device.tar.exists()
