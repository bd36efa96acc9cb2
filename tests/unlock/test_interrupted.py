"""Unlocks during which the loader is told to stop."""

from __future__ import annotations

import json
from http import HTTPStatus

from tests.support.archives import APP, Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.http_calls import post_json
from tests.support.images import remove_image, unnamed_images
from tests.support.inventory import Inventory, require_inventory
from tests.support.processes import poll
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

GRACE_SECONDS = 30.0  # graceful_timeout in gunicorn.conf.py


def audit_codes(operator: Operator) -> list[str | None]:
    return [line["code"] for line in operator.loader.log_lines() if line.get("event") == "unlock"]


def assert_engine_works(unlock_device: UnlockDevice, docker: Engine) -> None:
    """Require that a new loader on the same disk completes the unlock."""
    assert unlock_device.start(docker.host).unlock() == READY


def test_an_interrupted_load_ends_at_its_next_piece(
    unlock_device: UnlockDevice, wire: FaultyWire, docker: Engine, packed: Packed
) -> None:
    wire.slow_upload(pause_seconds=0.2)  # both tars take more than ten seconds
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host)
    operator.post()
    operator.wait_for("loading_images")
    assert operator.loader.stop() == 0
    assert audit_codes(operator) == ["INTERRUPTED"]
    assert not unlock_device.tar.exists()
    wire.heal()
    assert tags_of_tests(docker) == []
    assert unnamed_images(docker) == []
    assert_engine_works(unlock_device, docker)


def test_a_silent_engine_does_not_keep_the_loader_from_ending(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed
) -> None:
    wire.hold_response()
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host, HASTE=json.dumps({"loader.unlock.run.COMMIT_PATIENCE_SECONDS": 2.0}))
    operator.post()
    wire.wait_until_held()
    # The loader waits for an engine that has the whole tar, but not longer than its patience.
    assert operator.loader.process.stop(GRACE_SECONDS) == 0
    assert audit_codes(operator) == ["INTERRUPTED"]
    assert not unlock_device.tar.exists()


def test_a_load_that_ends_after_its_unlock_was_called_interrupted_is_undone(
    unlock_device: UnlockDevice, wire: FaultyWire, docker: Engine, packed: Packed
) -> None:
    operator = unlock_device.start(wire.host, HASTE=json.dumps({"loader.unlock.run.COMMIT_PATIENCE_SECONDS": 0.5}))
    unlock_device.put(packed.path)
    assert operator.unlock() == READY
    # Only one image is loaded then, so that no further piece meets the interrupt.
    remove_image(docker, APP)
    before = Inventory.of(docker)
    wire.hold_response()
    operator.let_engine_change("the engine still works on the load when the operator is told")
    operator.post()
    wire.wait_until_held()
    assert post_json(operator.loader.url, "/lock", {}).status == HTTPStatus.OK
    assert_failed(operator.rest(), "INTERRUPTED")
    wire.heal()
    wire.release()
    require_inventory(docker, before, within=GRACE_SECONDS)
    poll(lambda: not unlock_device.journal.exists(), GRACE_SECONDS, "all is undone")
    require_inventory(docker, before)
    assert operator.unlock() == READY
