"""CREDENTIALS_FILE and AUTO_UNLOCK: after power comes back, the device logs in and unlocks by itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loader import unattended_login as module
from loader.docker_engine import DockerEngine
from loader.errors import ApiUnreachable, StorageError
from loader.settings import BadSettings, Settings
from loader.unattended_login import (
    FIRST_WAIT,
    LONGEST_WAIT,
    LOOK_SECONDS,
    MAX_SIZE,
    REFUSED_HINT,
    Account,
    UnattendedLogin,
)
from loader.unlock.run import UnlockAnswer
from loader.unlock_state import UnlockRecord, UnlockState
from tests.support.archives import APP, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, seal
from tests.support.http_calls import call, post_json
from tests.support.missing import missing
from tests.support.processes import free_port, poll
from tests.support.resource_api_server import ResourceApiServer
from tests.support.unlocking import EMAIL, PASSWORD, READY, Operator, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage(APP)
SECONDS = 60.0
USER, STRANGER = 10001, 65534
WAITS = "The loader waits to log in and unlock by itself."


def write(path: Path, text: str = f"{EMAIL}\n{PASSWORD}\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return write(tmp_path / "account")


@pytest.mark.parametrize("text", [f"{EMAIL}\n{PASSWORD}\n", f"{EMAIL}\n{PASSWORD}", f"\ufeff{EMAIL}\r\n{PASSWORD}\r\n"])
def test_the_file_has_two_lines(tmp_path: Path, text: str) -> None:
    account = Account.read(write(tmp_path / "account", text))
    assert (account.email, account.password) == (EMAIL, PASSWORD)
    assert PASSWORD not in repr(account)
    assert EMAIL not in repr(account)


@pytest.mark.parametrize(
    "text",
    ["", EMAIL, f"{EMAIL}\n\n", f"\n{PASSWORD}\n", f"{EMAIL}\n{PASSWORD}\nmore\n", f"{EMAIL}\n{'x' * MAX_SIZE}\n"],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StorageError, match="does not have two lines, e-mail and password"):
        Account.read(write(tmp_path / "account", text))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StorageError, match=f"has mode {mode:04o}: others may have access"):
        Account.read(write(tmp_path / "account", mode=mode))


@pytest.mark.parametrize("user", [0, USER])
def test_the_file_of_another_user_is_refused(credentials: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    if os.geteuid() != 0:
        missing("files of several users", "giving a file away needs root")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for owner in {0, user}:
        os.chown(credentials, owner, -1)
        assert Account.read(credentials).email == EMAIL
    os.chown(credentials, STRANGER, -1)
    told = f"CREDENTIALS_FILE {credentials} belongs to the user {STRANGER}, not to root or to the user of the loader"
    with pytest.raises(StorageError, match=told):
        Account.read(credentials)


def test_a_credential_of_systemd_may_be_readable_for_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd permits the user by an access control list, which looks like a permission of the group."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Account.read(write(tmp_path / "account", mode=0o440)).email == EMAIL
    with pytest.raises(StorageError, match="others may have access"):
        Account.read(write(tmp_path / "account", mode=0o444))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"CREDENTIALS_FILE {tmp_path}/absent cannot be read: No such file"):
        Account.read(tmp_path / "absent")


@pytest.mark.parametrize("env", [{"AUTO_UNLOCK": "yes"}, {"AUTO_UNLOCK": "1"}, {"CREDENTIALS_FILE": "relative"}])
def test_settings_that_cannot_work_are_refused(env: dict[str, str]) -> None:
    with pytest.raises(BadSettings, match=r"AUTO_UNLOCK|CREDENTIALS_FILE"):
        Settings.from_env(env)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def device(unlock_device: UnlockDevice, docker: Engine) -> Iterator[UnlockDevice]:
    seal(unlock_device.archive, [IMAGE])
    yield unlock_device
    remove_all_images(docker)


def serve(directory: Path, port: int) -> ResourceApiServer:
    """Start the API at a port, at which a device without a network finds nothing; it knows the account at once."""
    directory.mkdir()
    with ResourceApiServer(directory) as prepared:
        prepared.add_user(EMAIL, PASSWORD)
        prepared.set_fragment(FRAGMENT)
    prepared.forget_requests()
    return ResourceApiServer(directory, data_dir=prepared.data_dir, port=port)


def start(device: UnlockDevice, docker: Engine, port: int, credentials: Path, **env: str) -> Operator:
    url = f"http://127.0.0.1:{port}"
    hasty = {"HASTE": json.dumps({"loader.unattended_login.LONGEST_WAIT": FIRST_WAIT})}
    settings = {"RESOURCE_API_URL": url, "CREDENTIALS_FILE": str(credentials), **hasty}
    return device.start(docker.host, **settings, **env)


def readiness(operator: Operator) -> dict[str, Any]:
    return dict(json.loads(call(operator.loader.url, "GET", "/ready").body))


def is_logged_in(operator: Operator) -> bool:
    return bool(operator.get("/status")["authenticated"])


def test_after_a_power_cut_the_device_comes_back_without_a_network_and_then_with_one(
    device: UnlockDevice, docker: Engine, port: int, credentials: Path, tmp_path: Path
) -> None:
    first = start(device, docker, port, credentials, AUTO_UNLOCK="1")
    poll(lambda: "API_UNREACHABLE" in readiness(first)["reasons"], SECONDS, "it says what it waits for")
    assert WAITS in readiness(first)["detail"]
    assert first.status().state == "idle"
    with serve(tmp_path / "api", port) as api:
        poll(lambda: first.status() == READY and is_logged_in(first), SECONDS, "it logs in and unlocks")
        assert first.document()["proven"] is True
        poll(lambda: readiness(first) == {"ready": True}, SECONDS, "it is ready")
        data = api.data_dir

    # The power goes: everything is killed. It comes back without a network.
    first.loader.process.kill_tree()
    second = start(device, docker, port, credentials, AUTO_UNLOCK="1")
    poll(lambda: second.status() == READY, SECONDS, "the images are there, which needs no network")
    assert not is_logged_in(second)
    poll(lambda: readiness(second).get("reasons") == ["NOT_LOGGED_IN", "API_UNREACHABLE"], SECONDS, "it waits")
    with ResourceApiServer(tmp_path / "api", data_dir=data, port=port):
        poll(lambda: is_logged_in(second), SECONDS, "it logs in once the network is there")
        poll(lambda: readiness(second) == {"ready": True}, SECONDS, "it is ready")


def test_a_refused_account_is_tried_once_until_the_file_changes(
    device: UnlockDevice, docker: Engine, port: int, credentials: Path, tmp_path: Path
) -> None:
    write(credentials, f"{EMAIL}\na wrong password\n")
    with serve(tmp_path / "api", port) as api:
        operator = start(device, docker, port, credentials, AUTO_UNLOCK="1")
        poll(lambda: "LOGIN_REJECTED" in readiness(operator)["reasons"], SECONDS, "the account is refused")
        assert REFUSED_HINT in readiness(operator)["hint"]
        # Nothing of it makes a person wait.
        assert post_json(operator.loader.url, "/login", {"email": EMAIL, "password": "wrong, too"}).status == 401
        write(credentials)
        poll(lambda: operator.status() == READY and is_logged_in(operator), SECONDS, "it logs in and unlocks")
        refused = [line for line in operator.loader.log_lines() if line.get("code") == "LOGIN_REJECTED"]
        assert [line["client"] for line in refused if line["event"] == "login"] == [None, "127.0.0.1"]
        assert len(api.requests("POST", "/login")) == 4  # refused, a person's, accepted, and that of the unlock


@pytest.mark.long
def test_after_a_lock_the_loader_stays_locked_until_the_file_changes(
    device: UnlockDevice, docker: Engine, port: int, credentials: Path, tmp_path: Path
) -> None:
    with serve(tmp_path / "api", port) as api:
        operator = start(device, docker, port, credentials)
        poll(lambda: is_logged_in(operator), SECONDS, "it logs in")
        assert operator.status().state == "idle", "without AUTO_UNLOCK nothing is unlocked"
        asked = len(api.requests("POST", "/login"))
        post_json(operator.loader.url, "/lock", None)
        # The log in that follows is made by the changed file, and by nothing before it.
        poll(lambda: readiness(operator)["reasons"] == ["NOT_LOGGED_IN"], SECONDS, "it is locked")
        write(credentials, f"{EMAIL}\r\n{PASSWORD}\r\n")
        poll(lambda: is_logged_in(operator), SECONDS, "the new file counts")
        assert len(api.requests("POST", "/login")) == asked + 1


def test_a_file_that_others_may_read_is_named_by_ready(
    device: UnlockDevice, docker: Engine, port: int, credentials: Path
) -> None:
    credentials.chmod(0o644)
    operator = start(device, docker, port, credentials)
    poll(lambda: "STORAGE_ERROR" in readiness(operator)["reasons"], SECONDS, "it says what is wrong")
    assert "others may have access" in readiness(operator)["detail"]
    assert PASSWORD not in operator.loader.process.stderr()


def test_it_unlocks_once_so_that_a_person_can_go_back(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `images back` the state is idle again, and the archive would bring the newer release."""
    settings = Settings.from_env({"CREDENTIALS_FILE": str(credentials), "AUTO_UNLOCK": "1"})
    states = [UnlockState.READY, UnlockState.IDLE]
    plans: list[object] = []
    monkeypatch.setattr(module, "authenticated", lambda: True)
    monkeypatch.setattr(module, "plan_unlock", lambda *each: plans.append(each))
    monkeypatch.setattr(module, "unlock_record", lambda: UnlockRecord(states[0]))
    unattended = UnattendedLogin(credentials, settings, DockerEngine(1))
    assert unattended.step() == LOOK_SECONDS
    del states[0]
    assert unattended.step() == LOOK_SECONDS
    assert plans == []
    assert unattended.waiting() is None


@pytest.mark.parametrize("moment", ["plan", "start"])
def test_a_lock_after_the_login_stops_the_unlock_as_well(
    credentials: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A lock between the login and the unlock finds no unlock to interrupt, and the unlock would log in again."""
    settings = Settings.from_env({"CREDENTIALS_FILE": str(credentials), "AUTO_UNLOCK": "1"})
    unattended = UnattendedLogin(credentials, settings, DockerEngine(1))
    done: list[str] = []

    def during(name: str, answer: object) -> object:
        done.append(name)
        if name == moment:
            unattended.lock()
        return answer

    record = UnlockRecord(UnlockState.IDLE)
    monkeypatch.setattr(module, "authenticated", lambda: True)
    monkeypatch.setattr(module, "unlock_record", lambda: record)
    monkeypatch.setattr(UnattendedLogin, "_find_images", lambda *_: None)
    monkeypatch.setattr(module, "identify", lambda _: None)
    monkeypatch.setattr(module, "plan_unlock", lambda *_: during("plan", SimpleNamespace(failure=None)))
    monkeypatch.setattr(module, "start_unlock", lambda *_: during("start", UnlockAnswer(record, started=True)))
    monkeypatch.setattr(module, "interrupt", lambda: done.append("interrupt"))
    unattended.step()
    assert done == (["plan"] if moment == "plan" else ["plan", "start", "interrupt"])


def test_after_a_cancel_nothing_is_unlocked(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"CREDENTIALS_FILE": str(credentials), "AUTO_UNLOCK": "1"})
    unattended = UnattendedLogin(credentials, settings, DockerEngine(1))
    plans: list[object] = []
    monkeypatch.setattr(module, "authenticated", lambda: True)
    monkeypatch.setattr(module, "plan_unlock", lambda *each: plans.append(each))
    monkeypatch.setattr(module, "unlock_record", lambda: UnlockRecord(UnlockState.IDLE))
    unattended.cancel_unlock()
    assert unattended.step() == LOOK_SECONDS
    assert (plans, unattended.waiting()) == ([], None)


def test_after_a_lock_nothing_is_waited_for(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"CREDENTIALS_FILE": str(credentials)})
    unattended = UnattendedLogin(credentials, settings, DockerEngine(1))

    def unreachable() -> None:
        raise ApiUnreachable("There is no network.")

    monkeypatch.setattr(module, "authenticated", lambda: False)
    monkeypatch.setattr(module, "get_api_client", unreachable)
    monkeypatch.setattr(module, "login_audited", lambda *_: nullcontext())
    unattended.step()
    assert WAITS in str(unattended.waiting())
    unattended.lock()
    assert unattended.waiting() is None
    unattended.step()
    assert unattended.waiting() is None


def test_the_waits_grow_and_differ(tmp_path: Path) -> None:
    """Devices whose power comes back at one moment must not ask the API at one moment."""
    absent = tmp_path / "absent"
    settings = Settings.from_env({"CREDENTIALS_FILE": str(absent)})
    devices = [UnattendedLogin(absent, settings, DockerEngine(1)) for _ in range(2)]
    waits = [[device.step() for _ in range(8)] for device in devices]
    for each in waits:
        assert FIRST_WAIT / 2 <= each[0] <= FIRST_WAIT
        assert LONGEST_WAIT / 2 <= each[-1] <= LONGEST_WAIT
    assert waits[0] != waits[1]
