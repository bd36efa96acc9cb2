"""The kill matrix: every state of an unlock x every way in which the loader may end x both modes.

Afterwards there is no debris, the engine holds nothing, and the next unlock reaches `ready`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.archives import APP, tags_of_tests
from tests.support.engines import Engine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.images import unnamed_images
from tests.support.left_files import left
from tests.support.processes import poll
from tests.support.procfs import is_running
from tests.support.unlocking import READY, Operator, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
SLOWLY = json.dumps({"loader.unlock.progress.UnlockProgress.reach": 0.25})  # before each segment
GRACE_SECONDS = 30.0  # graceful_timeout in gunicorn.conf.py
ORPHAN_SECONDS = 15.0
STALL_SECONDS = 10.0
API_PATHS = {"authenticating": "/login", "downloading_key": "/binary-split/key-fragment"}
MODES = ("tar", "stream")
STATES = ("authenticating", "downloading_key", "decrypting", "loading_images")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 4 MiB."""
    image = HandmadeImage(APP, (HandmadeLayer(os.urandom(MIB), 4),))
    return seal(tmp_path_factory.mktemp("archive") / "images.enc", [image])


class Scene:
    """A loader that is held in a state, ended, and started again."""

    def __init__(
        self, unlock_device: UnlockDevice, api: FaultyApi, wire: FaultyWire, archive: Path, mode: str, state: str
    ) -> None:
        """Start the loader that `hold_in` will hold in `state`; with an empty `state` one that is not held."""
        self._device = unlock_device
        self._api = api
        self._wire = wire
        self._archive = archive
        self._scratch = unlock_device.directory.parent / "scratch"
        self._scratch.mkdir()
        self._env = {"UNLOCK_MODE": mode, "TMPDIR": str(self._scratch), "RESOURCE_API_URL": api.url}
        self.held_in = ""
        self.finished = False
        self.operator = self.start(**({"HASTE": SLOWLY} if state == "decrypting" else {}))

    def start(self, **env: str) -> Operator:
        return self._device.start(self._wire.host, **self._env, **env)

    def hold_in(self, state: str) -> None:
        """Start an unlock and hold it in `state`."""
        self.held_in = state
        self._device.put(self._archive)
        if state == "authenticating":
            self._api.answer("POST", API_PATHS[state], Fault(silent=True), Fault(body=b'{"token": "any"}'))
        elif state == "downloading_key":
            self._api.answer("GET", API_PATHS[state], Fault(silent=True), Fault(body=FRAGMENT))
        elif state == "loading_images":
            self._wire.hold_upload(after=2 * MIB)
        assert self.operator.posted() == "authenticating"
        self.operator.wait_for(state)
        if state in API_PATHS:
            poll(lambda: self._api.requests(path=API_PATHS[state]), STALL_SECONDS, "the API is asked")
        if state == "loading_images":
            self._wire.wait_until_held()

    def assert_nothing_left(self, engine: Engine) -> None:
        self._wire.heal()
        assert tags_of_tests(engine) == ([APP] if self.finished else [])
        assert unnamed_images(engine) == []
        assert sorted(self._device.directory.iterdir()) == [self._device.archive, self._device.remembered.parent]
        kept = set(left(self._device.remembered.parent.iterdir())) - {self._device.journal}
        assert kept == ({self._device.remembered, self._device.mark} if self.finished else set())
        assert list(self._scratch.iterdir()) == []

    def assert_no_journal(self) -> None:
        assert not self._device.journal.exists()

    def audit_codes(self) -> list[str | None]:
        return [line["code"] for line in self.operator.loader.log_lines() if line.get("event") == "unlock"]


def kill_worker(scene: Scene) -> None:
    """Kill the worker. gunicorn's master then starts a new one."""
    loader = scene.operator.loader
    worker = loader.worker_pid
    os.kill(worker, signal.SIGKILL)
    poll(lambda: not is_running(worker), ORPHAN_SECONDS, "the worker has ended")


def kill_master(scene: Scene) -> None:
    loader = scene.operator.loader
    worker = loader.worker_pid
    loader.process.send_signal(signal.SIGKILL)
    loader.process.wait(ORPHAN_SECONDS)
    poll(lambda: not is_running(worker), ORPHAN_SECONDS, "the orphan has ended")
    # The worker notices within a second that it has no master. Until then it may have finished a whole load.
    scene.finished = scene.held_in == "decrypting" and scene.audit_codes() == [None]
    assert scene.finished or scene.audit_codes() == ["INTERRUPTED"]
    scene.operator = scene.start()


def end_by(number: signal.Signals) -> Callable[[Scene], None]:
    def end(scene: Scene) -> None:
        process = scene.operator.loader.process
        process.send_signal(number)
        assert process.wait(GRACE_SECONDS) == 0
        assert scene.audit_codes() == ["INTERRUPTED"]
        scene.operator = scene.start()

    return end


ENDS = {"worker": kill_worker, "master": kill_master, "SIGTERM": end_by(signal.SIGTERM)}


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    unlock_device: UnlockDevice,
    slow_api: FaultyApi,
    wire: FaultyWire,
    archive: Path,
) -> Scene:
    state = request.node.callspec.params.get("state", "")
    return Scene(unlock_device, slow_api, wire, archive, request.param, state)


def assert_recovers(scene: Scene, docker: Engine) -> None:
    assert scene.operator.status().state == "idle"
    scene.assert_nothing_left(docker)
    assert scene.operator.unlock() == READY
    assert tags_of_tests(docker) == [APP]
    scene.assert_no_journal()


@pytest.mark.parametrize("scene", MODES, indirect=True)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_after_any_end_of_the_loader_the_next_unlock_reaches_ready(
    scene: Scene, docker: Engine, state: str, end: Callable[[Scene], None]
) -> None:
    scene.hold_in(state)
    end(scene)
    assert_recovers(scene, docker)


@pytest.mark.parametrize("scene", ["tar"], indirect=True)
@pytest.mark.parametrize("state", ["authenticating", "loading_images"])
def test_ctrl_c_interrupts_the_unlock(scene: Scene, docker: Engine, state: str) -> None:
    scene.hold_in(state)
    end_by(signal.SIGINT)(scene)
    assert_recovers(scene, docker)


@pytest.mark.parametrize("scene", ["tar"], indirect=True)
def test_an_unfinished_manifest_is_removed_at_the_start(scene: Scene, unlock_device: UnlockDevice) -> None:
    """The test creates the unfinished file itself, because the moment is too short to kill a process in it."""
    half = unlock_device.remembered.with_name(".unlocked-manifest.json.abcd1234")
    half.write_bytes(b'{"images": [')
    scene.hold_in("authenticating")
    kill_worker(scene)
    assert scene.operator.status().state == "idle"
    assert not half.exists()
