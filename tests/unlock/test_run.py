"""Unlocks that reach `ready`, with real archives, a real API and real engines."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from tests.conftest import StartLoader
from tests.support.archives import APP, DATABASE, Packed, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.images import image_id, import_image, remove_image
from tests.support.unlocking import PASSWORD, READY, Rig, Status, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

KEY_FRAGMENT = "/binary-split/key-fragment"
CALLERS = 50
WAIT_SECONDS = 60
MIB = 1 << 20


def layers(engine: Engine, reference: str) -> tuple[str, ...]:
    return tuple(engine.client.api.inspect_image(reference)["RootFS"]["Layers"])


def assert_holds(engine: Engine, packed: Packed) -> None:
    """Require exactly the images of the archive, with all of their layers, also of those that were left out."""
    for image in packed.images:
        assert image_id(engine, image.reference).removeprefix("sha256:") == image.config.removeprefix("sha256:")
        assert layers(engine, image.reference) == image.layers


def test_the_images_of_an_archive_reach_docker(unlock_device: UnlockDevice, docker: Engine, packed: Packed) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host)
    assert operator.status() == Status("idle", None, None)

    assert operator.posted() == "authenticating"
    assert operator.rest() == READY

    assert_holds(docker, packed)
    assert sorted(unlock_device.directory.iterdir()) == [unlock_device.archive, unlock_device.remembered.parent]
    assert [(request.method, request.path) for request in unlock_device.api.requests()] == [
        ("POST", "/login"),
        ("GET", KEY_FRAGMENT),
    ]
    # The login stays for later requests.
    assert operator.get("/status")["authenticated"] is True


def test_the_images_of_an_archive_reach_podman_and_are_recognised_there(
    unlock_device: UnlockDevice, podman: Engine, packed: Packed
) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(podman.host)
    assert operator.unlock() == READY
    assert_holds(podman, packed)
    assert not unlock_device.tar.exists()
    unlock_device.api.forget_requests()
    unlock_device.put(packed.path)
    assert operator.unlock() == READY
    assert unlock_device.api.requests() == []


def test_the_remembered_manifest_is_readable_for_its_owner_only(rig: Rig, packed: Packed) -> None:
    assert rig.unlock(packed.path) == READY
    remembered = rig.device.remembered
    assert json.loads(json.loads(remembered.read_bytes())["head"]) == json.loads(json.dumps(packed.head.document()))
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600


def test_when_ready_an_unlock_only_asks_the_engine_for_the_images(rig: Rig, packed: Packed) -> None:
    assert rig.unlock(packed.path) == READY
    rig.device.api.forget_requests()
    rig.wire.forget()
    assert rig.operator.posted() == "ready"
    assert rig.operator.posted("a wrong password") == "ready"
    assert rig.device.api.requests() == []
    assert {request.method for request in rig.wire.requests} == {"GET"}


def lookups(rig: Rig) -> Counter[str]:
    """Count how often the loader has asked the engine for each image."""
    return Counter(unquote(request.path) for request in rig.wire.sent("GET", r"/images/.+/json$"))


def test_an_unlock_asks_the_engine_five_times_for_each_image(rig: Rig, packed: Packed) -> None:
    """For the plan, right before the first load, right after its own load, for its names, and when all is done.

    Right before the first load, the loader also asks once for each ID that an image may get.
    """
    assert rig.unlock(packed.path) == READY
    asked = lookups(rig)
    by_id = {path: times for path, times in asked.items() if "/images/sha256:" in path}
    assert list(by_id.values()) == [1] * 2 * len(packed.images)
    assert list((asked - Counter(by_id)).values()) == [5] * len(packed.images)


def test_an_unlock_of_images_that_are_loaded_asks_the_engine_once_for_each(rig: Rig, packed: Packed) -> None:
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    assert rig.unlock(packed.path) == READY
    assert list(lookups(rig).values()) == [1] * len(packed.images)


def test_a_new_archive_after_ready_is_unlocked(rig: Rig, packed: Packed) -> None:
    assert rig.unlock(packed.path) == READY
    remove_all_images(rig.engine)
    rig.device.api.forget_requests()
    rig.device.put(packed.path)
    assert rig.operator.posted() == "authenticating"
    assert rig.operator.rest() == READY
    assert_holds(rig.engine, packed)
    assert len(rig.device.api.requests("GET", KEY_FRAGMENT)) == 1


def test_images_that_are_loaded_already_need_no_login(rig: Rig, packed: Packed) -> None:
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    assert rig.unlock(packed.path, "a wrong password") == READY
    assert rig.device.api.requests() == []
    assert rig.loads == []


def test_a_prior_error_stays_if_the_images_are_already_loaded(rig: Rig, packed: Packed) -> None:
    failed = rig.unlock(packed.path, "a wrong password")
    assert (failed.state, failed.code) == ("error", "LOGIN_REJECTED")
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    rig.device.api.forget_requests()
    assert rig.operator.unlock() == Status("ready", failed.error, None)
    assert rig.device.api.requests() == []


def test_one_missing_image_of_two_is_loaded(rig: Rig, packed: Packed) -> None:
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    remove_image(rig.engine, DATABASE)
    assert rig.unlock(packed.path) == READY
    assert_holds(rig.engine, packed)


def test_another_image_under_the_tag_does_not_count_as_loaded(rig: Rig, packed: Packed) -> None:
    import_image(rig.engine, APP, seed=77)
    import_image(rig.engine, DATABASE, seed=78)
    assert rig.unlock(packed.path) == READY
    assert_holds(rig.engine, packed)
    assert len(rig.device.api.requests("GET", KEY_FRAGMENT)) == 1


def test_of_many_simultaneous_callers_one_starts_the_run(rig: Rig, packed: Packed) -> None:
    rig.device.put(packed.path)
    barrier = threading.Barrier(CALLERS)

    def post(_: int) -> int:
        barrier.wait(WAIT_SECONDS)
        return rig.operator.post()[0]

    with ThreadPoolExecutor(CALLERS) as pool:
        statuses = list(pool.map(post, range(CALLERS)))
    assert statuses == [200] * CALLERS
    assert rig.operator.rest() == READY
    assert len(rig.device.api.requests("POST", "/login")) == 1
    assert len(rig.device.api.requests("GET", KEY_FRAGMENT)) == 1
    assert [load.body_bytes for load in rig.loads] == packed.sent


def test_callers_during_a_run_get_its_state(rig: Rig, packed: Packed) -> None:
    rig.unlock_until_held(packed.path, MIB)
    assert rig.operator.posted() == "loading_images"
    assert rig.operator.status() == Status("loading_images", None, None)
    rig.device.archive.unlink()  # the run has the file open
    assert rig.operator.posted() == "loading_images"
    rig.wire.release()
    assert rig.operator.rest() == READY
    assert [load.body_bytes for load in rig.loads] == packed.sent


def test_the_tar_is_readable_for_its_owner_only(rig: Rig, packed: Packed) -> None:
    rig.unlock_until_held(packed.path, MIB)
    status = rig.device.tar.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
    assert status.st_size == sum(packed.sent)
    rig.wire.release()
    assert rig.operator.rest() == READY
    assert not rig.device.tar.exists()


def test_a_tar_that_cannot_be_removed_causes_only_a_warning(rig: Rig, packed: Packed) -> None:
    rig.unlock_until_held(packed.path, MIB)
    rig.device.tar.unlink()  # the loader has the file open
    (rig.device.tar / "in the way").mkdir(parents=True)
    rig.wire.release()
    assert rig.operator.rest() == READY
    assert_holds(rig.engine, packed)
    assert rig.device.tar.is_dir()
    warnings = [message for message in rig.operator.log_messages("WARNING") if str(rig.device.tar) in message]
    assert [message for message in warnings if "could not be removed" in message]


def test_a_leftover_tar_is_removed_at_the_start(unlock_device: UnlockDevice, start_loader: StartLoader) -> None:
    unlock_device.tar.write_bytes(b"plaintext of a run that was killed")
    start_loader()
    assert not unlock_device.tar.exists()


def test_a_leftover_that_cannot_be_removed_does_not_keep_the_loader_from_starting(
    unlock_device: UnlockDevice, docker: Engine
) -> None:
    unlock_device.tar.mkdir()
    operator = unlock_device.start(docker.host)
    assert operator.status().state == "idle"
    assert any(str(unlock_device.tar) in message for message in operator.log_messages("WARNING"))


def test_a_link_in_the_place_of_the_tar_is_not_followed(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    rig.device.tar.symlink_to(elsewhere)
    assert rig.unlock(packed.path) == READY
    assert elsewhere.read_bytes() == b""
    assert not rig.device.tar.is_symlink()


def test_a_manifest_that_cannot_be_remembered_does_not_undo_an_unlock(rig: Rig, packed: Packed) -> None:
    rig.device.remembered.mkdir()
    assert rig.unlock(packed.path) == READY
    assert_holds(rig.engine, packed)
    assert any("could not be remembered" in message for message in rig.operator.log_messages("WARNING"))


def test_each_run_writes_one_audit_line_and_no_secret(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed
) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, LOG_LEVEL="DEBUG")
    operator.unlock("a wrong password")
    assert operator.unlock() == READY
    operator.loader.stop()

    audits = [line for line in operator.loader.log_lines() if line.get("event") == "unlock"]
    assert [(line["outcome"], line["code"]) for line in audits] == [("failed", "LOGIN_REJECTED"), ("ok", None)]
    assert audits[1]["bytes"] == packed.path.stat().st_size
    assert all(line["file"] == str(unlock_device.archive) and line["seconds"] > 0 for line in audits)

    token = unlock_device.api.requests("GET", KEY_FRAGMENT)[0].headers["AUTHORIZATION"].removeprefix("Bearer ")
    encoded = (FRAGMENT.hex(), base64.b64encode(FRAGMENT).decode())
    secrets = (PASSWORD, "a wrong password", token, FRAGMENT.decode(), *encoded)
    written = operator.loader.process.stdout() + operator.loader.process.stderr()
    kept = b"".join(path.read_bytes() for path in unlock_device.directory.rglob("*") if path.is_file())
    assert [secret for secret in secrets if secret in written or secret.encode() in kept] == []
