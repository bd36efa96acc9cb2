"""No way back by accident: an older release than the newest one that became ready here is ROLLBACK.

It is refused before the login and before the engine is asked anything, unless the caller names exactly its head. The
API may refuse it too, and then nobody can permit it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.signatures import SigningKey
from loader.packing.sign import sign
from loader.unlock.release_mark import MARK_NAME, KnownRelease, ReleaseMark
from loader.unlock.remembered import NOTHING, REMEMBERED_NAME
from tests.support.archives import APP, remove_all_images
from tests.support.engines import Engine
from tests.support.faulty_api import Fault
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import CREATED, FRAGMENT, HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.http_calls import CREDENTIALS, call, post_json
from tests.support.images import image_id
from tests.support.processes import poll
from tests.support.publishers import ANNA, EVE, write_publishers
from tests.support.thin_archives import index_of
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.conftest import assert_failed
from tests.unlock.watched_device import WatchedDevice, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

LOGIN, KEY = "/login", "/binary-split/key-fragment"
IMAGE = HandmadeImage(APP, (HandmadeLayer(b"mine" * 500),))
OTHER = HandmadeImage(APP, (HandmadeLayer(b"another" * 500),))


class Releases:
    """Archives in a directory, each made once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, serial: int, image: HandmadeImage = IMAGE, key: SigningKey = ANNA) -> Path:
        """Return the archive of an image with this serial, signed by `key`."""
        path = self._directory / f"{serial}-{image.image.config[-8:]}-{key.public.hex()[:8]}.enc"
        if not path.exists():
            seal(path, [image], serial=serial)
            sign(path, key, no_stage)
        return path

    def known(self, serial: int, image: HandmadeImage = IMAGE) -> KnownRelease:
        """Return the release of that archive."""
        return KnownRelease.of(index_of(self.path(serial, image)).stored)


class no_stage:  # noqa: N801  # used as a function that returns a context
    """A stage of work whose progress nobody shows."""

    def __init__(self, _name: str, _size: int) -> None: ...

    def __enter__(self) -> Any:
        return lambda _: None

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return Releases(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module")
def _device(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedDevice]:
    directory = tmp_path_factory.mktemp("device")
    publishers = write_publishers(directory / "publishers")
    with watched_device(directory, docker_engine, "stream", PUBLISHER_KEYS=str(publishers)) as device:
        yield device


@pytest.fixture
def device(_device: WatchedDevice, docker: Engine) -> WatchedDevice:
    """A device that has had nothing yet, with publishers, whose loader goes on running."""
    remove_all_images(docker)
    _device.api.reset()
    for path in models(_device).iterdir():
        path.unlink()
    return _device


def models(device: WatchedDevice) -> Path:
    return device.directory / "models"


def mark_of(directory: Path) -> ReleaseMark:
    return ReleaseMark.read(directory, NOTHING)


def unlocked(device: WatchedDevice, archive: Path, allow_older: str | None = None) -> dict[str, Any]:
    """Unlock an archive, and return the status at the end."""
    device.unlock(archive.read_bytes(), **({} if allow_older is None else {"allow_older": allow_older}))
    return device.operator.document()


RELATIONS = {"lower": (4, OTHER), "equal, same head": (5, IMAGE), "equal, other head": (5, OTHER), "higher": (6, OTHER)}


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_release_signature_presence_and_permission(
    device: WatchedDevice, docker: Engine, releases: Releases, relation: str
) -> None:
    serial, image = RELATIONS[relation]
    release, newest = releases.known(serial, image), releases.known(5)
    older = relation in ("lower", "equal, other head")
    for signed, there, allowed in product((True, False), repeat=3):
        case = (relation, signed, there, allowed)
        remove_all_images(docker)
        for path in models(device).iterdir():
            path.unlink()
        before = ReleaseMark(newest)
        (models(device) / MARK_NAME).write_bytes(before.to_bytes())
        if there:
            docker.client.images.load(b"".join(docker_archive(image)))

        archive = releases.path(serial, image, ANNA if signed else EVE)
        status = unlocked(device, archive, release.head if allowed else None)

        outcome = (status["state"], status["code"], status["proven"])
        if not signed or (older and not allowed):
            assert outcome == ("error", "ROLLBACK" if signed else "UNTRUSTED_PUBLISHER", False), case
            assert (device.api_paths, device.engine_paths) == ([], []), case
            device.assert_untouched()
            continue
        assert outcome == ("ready", None, not there), case
        assert device.api_paths == ([] if there else [LOGIN, KEY]), case
        expected = ReleaseMark(newest, release.head) if older else before if there else ReleaseMark(release)
        assert mark_of(models(device)) == expected, case


def test_the_error_and_the_plan_name_both_releases(device: WatchedDevice, releases: Releases) -> None:
    newer, older = releases.known(7), releases.known(6, OTHER)
    assert unlocked(device, releases.path(7))["state"] == "ready"
    status = unlocked(device, releases.path(6, OTHER))
    sentence = (
        f"The archive is release 1.4 (serial 6, made {CREATED}), older than release 1.4 (serial 7, made {CREATED}), "
        "which became ready on this device."
    )
    assert (status["code"], status["retryable"], status["error"]) == ("ROLLBACK", False, sentence)
    assert "--allow-older" in status["hint"]
    assert "allow_older" in status["hint"]

    plan = device.plan(releases.path(6, OTHER).read_bytes())
    assert plan["failure"] == {"code": "ROLLBACK", "detail": sentence, "hint": status["hint"], "retryable": False}
    assert plan["release"] == {"version": "1.4", "serial": 6, "created": CREATED, "head": older.head}
    assert plan["older_than"] == {"version": "1.4", "serial": 7, "created": CREATED, "head": newer.head}
    plan = device.plan(releases.path(7).read_bytes())
    assert (plan["older_than"], plan["failure"]) == (None, None)


def test_permission_for_one_head_permits_no_other(device: WatchedDevice, releases: Releases) -> None:
    assert unlocked(device, releases.path(7))["state"] == "ready"
    permitted = releases.known(6, OTHER).head
    for serial, image in ((5, OTHER), (6, IMAGE), (7, OTHER)):
        assert unlocked(device, releases.path(serial, image), permitted)["code"] == "ROLLBACK"
        assert (device.api_paths, device.engine_paths) == ([], [])
    assert unlocked(device, releases.path(6, OTHER), permitted)["state"] == "ready"


def test_what_failed_or_was_not_proven_raises_no_mark(
    device: WatchedDevice, docker: Engine, releases: Releases
) -> None:
    assert unlocked(device, releases.path(5))["state"] == "ready"
    device.api.answer("POST", LOGIN, Fault(401))
    assert unlocked(device, releases.path(9, OTHER))["code"] == "LOGIN_REJECTED"
    device.api.reset()
    docker.client.images.load(b"".join(docker_archive(OTHER)))
    status = unlocked(device, releases.path(9, OTHER))
    assert (status["state"], status["proven"]) == ("ready", False)
    assert mark_of(models(device)) == ReleaseMark(releases.known(5))
    assert unlocked(device, releases.path(6))["state"] == "ready"


def test_after_a_way_back_the_way_forward_is_free_and_ends_the_permission(
    device: WatchedDevice, docker: Engine, releases: Releases
) -> None:
    old, new = releases.path(6, OTHER), releases.path(7)
    head = releases.known(6, OTHER).head
    assert unlocked(device, new)["state"] == "ready"
    assert unlocked(device, old, head)["state"] == "ready"
    assert image_id(docker, APP) == OTHER.image.config
    assert unlocked(device, old)["state"] == "ready"
    assert unlocked(device, new)["state"] == "ready"
    assert image_id(docker, APP) == IMAGE.image.config
    assert unlocked(device, old)["code"] == "ROLLBACK"


@pytest.mark.parametrize("there", [False, True], ids=["loaded", "images there"])
def test_a_device_that_was_set_back_on_purpose_goes_on_after_a_restart(
    unlock_device: UnlockDevice, docker: Engine, releases: Releases, there: bool
) -> None:
    unlock_device.put(releases.path(7))
    operator = unlock_device.start(docker.host)
    assert operator.unlock() == READY
    unlock_device.put(releases.path(6, OTHER))
    assert_failed(operator.unlock(), "ROLLBACK")
    if there:
        docker.client.images.load(b"".join(docker_archive(OTHER)))
    # The error before stays in the status if a run finds that all images are there.
    assert operator.unlock(allow_older=releases.known(6, OTHER).head).state == "ready"
    assert operator.document()["proven"] is not there
    operator.loader.stop()
    unlock_device.api.forget_requests()

    operator = unlock_device.start(docker.host)
    assert operator.unlock("any password") == READY
    assert unlock_device.api.requests() == []
    remove_all_images(docker)
    assert operator.unlock() == READY
    assert image_id(docker, APP) == OTHER.image.config


def test_a_release_whose_unlock_was_killed_is_not_the_newest(
    unlock_device: UnlockDevice, wire: FaultyWire, releases: Releases
) -> None:
    unlock_device.put(releases.path(5))
    operator = unlock_device.start(wire.host)
    assert operator.unlock() == READY
    before = unlock_device.mark.read_bytes()
    wire.hold_upload(after=1000)
    unlock_device.put(releases.path(9, OTHER))
    operator.post()
    wire.wait_until_held()
    os.kill(operator.loader.worker_pid, signal.SIGKILL)
    poll(lambda: operator_state(operator) == "idle", 30, "the next worker responds")
    wire.heal()
    assert unlock_device.mark.read_bytes() == before
    unlock_device.put(releases.path(6, OTHER))
    assert operator.unlock() == READY
    assert mark_of(unlock_device.mark.parent) == ReleaseMark(releases.known(6, OTHER))


def operator_state(operator: Operator) -> str | None:
    """Return the state of the unlock, None while no worker responds."""
    try:
        return operator.status().state
    except OSError:
        return None


def test_the_audit_line_says_what_the_caller_has_permitted(device: WatchedDevice, releases: Releases) -> None:
    assert unlocked(device, releases.path(7))["state"] == "ready"
    head = releases.known(6, OTHER).head
    assert unlocked(device, releases.path(5, OTHER), head)["code"] == "ROLLBACK"
    assert unlocked(device, releases.path(6, OTHER), head)["state"] == "ready"
    permitted = f"{releases.known(6, OTHER).text} is permitted, though {releases.known(7).text} became ready"
    assert len([line for line in device.operator.log_messages("WARNING") if line.startswith(permitted)]) >= 1
    lines = [line for line in device.operator.loader.log_lines() if line.get("event") == "unlock"][-3:]
    assert [(line["code"], line.get("allow_older")) for line in lines] == [
        (None, None),
        ("ROLLBACK", head),
        (None, head),
    ]


@pytest.mark.parametrize("gone", [MARK_NAME, REMEMBERED_NAME])
def test_one_of_two_files_is_enough_to_know_the_newest_release(
    device: WatchedDevice, releases: Releases, gone: str
) -> None:
    assert unlocked(device, releases.path(7))["state"] == "ready"
    (models(device) / gone).unlink()
    assert unlocked(device, releases.path(6, OTHER))["code"] == "ROLLBACK"


def test_a_device_that_has_forgotten_everything_takes_an_older_release(
    device: WatchedDevice, releases: Releases
) -> None:
    """What remains possible for whoever may write to the directory, as docs/security.md says."""
    assert unlocked(device, releases.path(7))["state"] == "ready"
    for path in models(device).iterdir():
        path.unlink()
    assert unlocked(device, releases.path(6, OTHER))["state"] == "ready"


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 300], ids=["empty", "foreign", "zeros"])
def test_a_damaged_mark_is_told_and_the_last_unlock_counts(
    device: WatchedDevice, releases: Releases, content: bytes
) -> None:
    assert unlocked(device, releases.path(7))["state"] == "ready"
    (models(device) / MARK_NAME).write_bytes(content)
    assert unlocked(device, releases.path(6, OTHER))["code"] == "ROLLBACK"
    assert any(str(models(device) / MARK_NAME) in line for line in device.operator.log_messages("WARNING"))
    assert unlocked(device, releases.path(8, OTHER))["state"] == "ready"
    assert mark_of(models(device)) == ReleaseMark(releases.known(8, OTHER))


def state_minimum(device: WatchedDevice, stated: str) -> None:
    device.api.answer("GET", KEY, Fault(body=FRAGMENT, headers={"Azaion-Minimum-Serial": stated}))


def test_the_api_refuses_what_is_below_its_minimum_and_nobody_can_permit_it(
    device: WatchedDevice, releases: Releases
) -> None:
    assert unlocked(device, releases.path(7))["state"] == "ready"
    state_minimum(device, "7")
    before = mark_of(models(device))
    head = releases.known(6, OTHER).head
    status = unlocked(device, releases.path(6, OTHER), head)
    assert (status["state"], status["code"]) == ("error", "ROLLBACK")
    assert status["error"] == (
        f"The archive is release 1.4 (serial 6, made {CREATED}), but the resource API permits no serial below 7."
    )
    assert "--allow-older" not in status["hint"]
    assert (device.api_paths, device.loads) == ([LOGIN, KEY], [])
    device.assert_untouched()
    assert mark_of(models(device)) == before
    state_minimum(device, "6")
    assert unlocked(device, releases.path(6, OTHER), head)["state"] == "ready"


@pytest.mark.parametrize("stated", ["", " ", "-1", "+1", "1.0", "1e3", "0x1", "1_0", str(1 << 53), "9" * 5000, "1, 1"])
def test_a_minimum_that_is_no_serial_breaks_the_contract(
    device: WatchedDevice, releases: Releases, stated: str
) -> None:
    state_minimum(device, stated)
    status = unlocked(device, releases.path(6))
    assert (status["state"], status["code"]) == ("error", "API_PROTOCOL")
    assert device.loads == []


@pytest.mark.parametrize("stated", ["0", "6", "0006"])
def test_a_minimum_that_is_reached_changes_nothing(device: WatchedDevice, releases: Releases, stated: str) -> None:
    state_minimum(device, stated)
    assert unlocked(device, releases.path(6))["state"] == "ready"


@pytest.mark.parametrize(
    "value", ["", "ab", "A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", True, 5, None, ["a" * 64]]
)
def test_what_is_no_digest_of_a_head_permits_nothing(device: WatchedDevice, value: object) -> None:
    url = device.operator.loader.url
    reply = post_json(url, "/unlock", {**CREDENTIALS, "allow_older": value})
    assert list(reply.problem(422, "VALIDATION_FAILED")["errors"]) == ["allow_older"]


def test_permission_without_an_archive_or_a_need_changes_nothing(device: WatchedDevice, releases: Releases) -> None:
    assert unlocked(device, releases.path(6), "a" * 64)["state"] == "ready"
    assert mark_of(models(device)) == ReleaseMark(releases.known(6))
    device.archive.unlink()
    reply = post_json(device.operator.loader.url, "/unlock", {**CREDENTIALS, "allow_older": "a" * 64})
    assert reply.json()["state"] == "ready"
    assert call(device.operator.loader.url, "GET", "/unlock/status").json()["state"] == "ready"
