"""`azaion-loader unlock` logs in with the credentials that it was given, also where the unlock needs no login."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.cli_runs import invoke
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, docker_archive, seal
from tests.support.processes import poll
from tests.support.unlocking import EMAIL, PASSWORD, Operator, Rig, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage(APP)
UNLOCK = ("unlock", "--email", EMAIL)


@pytest.fixture
def url(rig: Rig) -> str:
    return rig.operator.loader.url


@pytest.fixture
def locked(rig: Rig, url: str) -> Rig:
    """A loader without a login, whose images are all in the engine, as after every reboot."""
    # A login that is accepted ends the throttle for the refusals of the test before.
    assert invoke(url, "login", "--email", EMAIL, stdin=f"{PASSWORD}\n").exit_code == 0
    assert invoke(url, "lock").exit_code == 0
    rig.device.api.forget_requests()
    rig.engine.client.images.load(b"".join(docker_archive(IMAGE)))
    seal(rig.device.archive, [IMAGE])
    return rig


def is_logged_in(operator: Operator) -> bool:
    return bool(operator.get("/status")["authenticated"])


def test_the_command_logs_in_though_the_images_are_there(locked: Rig, url: str) -> None:
    done = invoke(url, *UNLOCK, stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (0, "images are ready, not proven; logged in\n")
    assert "images are ready, not proven, without a login; logging in\n" in done.stderr
    assert is_logged_in(locked.operator)
    again = invoke(url, *UNLOCK, "--json", stdin=f"{PASSWORD}\n")
    assert (again.exit_code, again.stderr) == (0, "")
    assert json.loads(again.stdout) == locked.operator.document()
    assert json.loads(again.stdout)["authenticated"] is True


@pytest.mark.parametrize("times", [1, 2], ids=["with a run", "without a run"])
def test_the_command_fails_if_the_credentials_are_wrong_though_the_images_are_there(
    locked: Rig, url: str, times: int
) -> None:
    for _ in range(times):
        done = invoke(url, *UNLOCK, stdin="a wrong password\n")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "images are ready, not proven, without a login; logging in\n" in done.stderr
    assert "Error: The resource API rejected the e-mail or the password. (LOGIN_REJECTED)\n" in done.stderr
    assert locked.operator.status().state == "ready"
    assert not is_logged_in(locked.operator)
    told = invoke(url, *UNLOCK, "--json", stdin="a wrong password\n")
    assert (told.exit_code, told.stderr) == (5, "")
    assert json.loads(told.stdout)["code"] == "LOGIN_REJECTED"


def test_a_request_of_its_own_needs_no_login_while_the_images_are_there(locked: Rig) -> None:
    """The rule of HTTP: images that are there are `ready` whatever the credentials."""
    assert locked.operator.post("a wrong password")[1]["started"] is True
    assert locked.operator.rest().state == "ready"
    _, answer = locked.operator.post("a wrong password")
    assert answer == {"state": "ready", "authenticated": False, "proven": False, "started": False}
    assert locked.device.api.requests() == []


def test_an_unlock_that_has_logged_in_does_not_do_it_twice(rig: Rig, url: str) -> None:
    seal(rig.device.archive, [IMAGE])
    done = invoke(url, *UNLOCK, stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (0, "images are ready and proven; logged in\n")
    assert len(rig.device.api.requests("POST", "/login")) == 1


def test_credentials_of_a_command_that_joins_a_run_are_tried_too(rig: Rig, url: str) -> None:
    rig.wire.hold_upload(after=1024)
    seal(rig.device.archive, [IMAGE])
    rig.operator.post()
    rig.wire.wait_until_held()
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(invoke, url, *UNLOCK, stdin="a wrong password\n")
        # The line of the log is written after the command has joined the run.
        poll(lambda: _unlock_requests(rig) >= 2, 30, "the command joins the run")
        rig.wire.release()
        done = joined.result()
    assert (done.exit_code, done.stdout) == (5, "")
    assert "(LOGIN_REJECTED)" in done.stderr
    assert rig.operator.rest().state == "ready"
    assert is_logged_in(rig.operator), "a refused login keeps the earlier one"


def _unlock_requests(rig: Rig) -> int:
    lines = rig.operator.loader.log_lines()
    return sum(line.get("path") == "/unlock" for line in lines)


def test_an_api_that_cannot_be_reached_fails_the_command_and_not_the_images(
    unlock_device: UnlockDevice, docker: Engine
) -> None:
    docker.client.images.load(b"".join(docker_archive(IMAGE)))
    seal(unlock_device.archive, [IMAGE])
    operator = unlock_device.start(docker.host, RESOURCE_API_URL="http://127.0.0.1:9")
    done = invoke(operator.loader.url, *UNLOCK, stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (6, "")
    assert "images are ready, not proven, without a login; logging in\n" in done.stderr
    assert "(API_UNREACHABLE)" in done.stderr
    assert operator.status().state == "ready"
