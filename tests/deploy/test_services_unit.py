"""deploy/azaion-services.service and .path, run by a real systemd: the services start after the unlock, and again."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.unlock.remembered import REMEMBERED_NAME
from tests.deploy.composed import compose_command
from tests.deploy.user_manager import UserManager, user_manager
from tests.support.archives import APP, ARCHITECTURE, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import clean_env, poll
from tests.support.unlocking import READY, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

SERVICE, PATH = (REPOSITORY / "deploy" / f"azaion-services.{kind}" for kind in ("service", "path"))
READY_COMMAND = "/srv/azaion-loader/.venv/bin/azaion-loader"
COMPOSE = "/usr/bin/docker compose"
MANIFEST = f"/opt/azaion/models/{REMEMBERED_NAME}"
SECONDS = 60.0
OLD, NEW = (
    HandmadeImage(APP, (HandmadeLayer(content * 900, 1, "release.txt"),), architecture=ARCHITECTURE)
    for content in (b"old", b"new")
)
# The images of the tests are empty, so the container has the programs of this machine.
COMPOSE_FILE = {
    "version": "3",
    "services": {
        "app": {
            "image": APP,
            "command": ["/usr/bin/sleep", "1000000"],
            "network_mode": "none",
            "restart": "unless-stopped",
            "stop_grace_period": "0s",
            "volumes": [f"{path}:{path}:ro" for path in ("/usr", "/lib", "/lib64")],
        }
    },
}


@pytest.fixture
def manager() -> Iterator[UserManager]:
    with user_manager() as running:
        yield running


def install(manager: UserManager, models: Path, directory: Path, ready: str, compose: str, url: str = "") -> None:
    """Install both units with the paths of a test in place of those of a device."""
    text = SERVICE.read_text()
    for before, after in (
        ("WorkingDirectory=/srv/azaion-services", f"WorkingDirectory={directory}"),
        ("LOADER_URL=unix:/run/azaion-loader/loader.sock", f"LOADER_URL={url}"),
        (READY_COMMAND, ready),
        (COMPOSE, compose),
        ("RestartSec=10", "RestartSec=100ms"),
        (MANIFEST, str(models / REMEMBERED_NAME)),
    ):
        assert before in text, before
        text = text.replace(before, after)
    (manager.units / SERVICE.name).write_text(text)
    path = PATH.read_text()
    assert f"PathChanged={MANIFEST}\n" in path
    (manager.units / PATH.name).write_text(path.replace(MANIFEST, str(models / REMEMBERED_NAME)))
    manager.call("daemon-reload")


@pytest.mark.parametrize("compose", [COMPOSE, "/usr/bin/docker-compose"], ids=["plugin", "program"])
def test_systemd_accepts_the_units(tmp_path: Path, compose: str) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "the program is not installed")
    text = SERVICE.read_text().replace(READY_COMMAND, str(shutil.which("true")))
    text = text.replace(COMPOSE, compose).replace(compose.split()[0], str(shutil.which("true")))
    (tmp_path / SERVICE.name).write_text(text)
    shutil.copy(PATH, tmp_path)
    units = [str(tmp_path / each.name) for each in (SERVICE, PATH)]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    # The unit of the loader is not installed here, and need not be.
    assert done.returncode == 0, done.stderr
    assert "azaion-services" not in done.stderr


def test_the_units_have_the_paths_of_the_loader() -> None:
    loader = (REPOSITORY / "deploy/azaion-loader.service").read_text()
    assert f"ExecStart={READY_COMMAND} serve\n" in loader
    (bind,) = re.findall("^Environment=LOADER_BIND=(.*)$", loader, re.MULTILINE)
    assert f"Environment=LOADER_URL={bind}\n" in SERVICE.read_text()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh -eu\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_update_during_a_start_of_the_services_is_not_lost(manager: UserManager, tmp_path: Path) -> None:
    """Shell scripts in place of the loader and compose, because an update must end in the right moment."""
    manifest, runs = tmp_path / REMEMBERED_NAME, tmp_path / "runs"
    manifest.write_text("first")
    update = f"cat {manifest} >> {runs}\ncd {tmp_path}\n[ -e new ] || {{ echo second > new; cp new {manifest}; }}"
    install(manager, tmp_path, tmp_path, script(tmp_path / "ready", "exit 0"), script(tmp_path / "compose", update))
    manager.call("start", PATH.name)
    # It fails because of the update, and starts again.
    assert manager.run("start", SERVICE.name).returncode != 0
    poll(lambda: runs.read_text() == "firstsecond\n", SECONDS, "the services are started again")
    poll(lambda: manager.state(SERVICE.name) == "inactive", SECONDS, "the unit has ended")


def test_the_services_are_not_started_before_the_unlock(manager: UserManager, tmp_path: Path) -> None:
    """A script in place of the loader: it fails until a file is there."""
    ready = script(tmp_path / "ready", f'echo "$@" > {tmp_path}/asked\ntest -e {tmp_path}/unlocked')
    install(manager, tmp_path, tmp_path, ready, script(tmp_path / "compose", f"touch {tmp_path}/started"))
    assert manager.run("start", SERVICE.name).returncode != 0
    assert (tmp_path / "asked").read_text() == "ready --unlocked --wait 600\n"
    assert not (tmp_path / "started").exists()
    (tmp_path / "unlocked").touch()
    poll((tmp_path / "started").exists, SECONDS, "it tries again without a limit")


def test_the_start_of_the_device_does_not_wait_for_the_unlock(manager: UserManager, tmp_path: Path) -> None:
    """A script in place of the loader, which waits until a file is there."""
    ready = script(tmp_path / "ready", f"touch {tmp_path}/waits\nuntil [ -e {tmp_path}/unlocked ]; do sleep 0.1; done")
    install(manager, tmp_path, tmp_path, ready, script(tmp_path / "compose", f"touch {tmp_path}/started"))
    (manager.units / "multi-user.target").write_text("[Unit]\nDescription=The start of the device\n")
    manager.call("enable", PATH.name, SERVICE.name)
    manager.call("start", "multi-user.target")
    poll((tmp_path / "waits").exists, SECONDS, "the unit waits for the unlock")
    states = [manager.state(unit) for unit in ("multi-user.target", PATH.name, SERVICE.name)]
    assert states == ["active", "active", "activating"]
    assert not (tmp_path / "started").exists()
    (tmp_path / "unlocked").touch()
    poll((tmp_path / "started").exists, SECONDS, "the services start")
    poll(lambda: manager.state(SERVICE.name) == "inactive", SECONDS, "the unit has ended")


@pytest.mark.long
def test_an_unlock_and_an_update_start_the_services(
    manager: UserManager, unlock_device: UnlockDevice, docker: Engine, tmp_path: Path
) -> None:
    """A real loader, engine and compose. The container is made of the image of each release."""
    services = tmp_path / "services"
    services.mkdir()
    (services / "docker-compose.yml").write_text(json.dumps(COMPOSE_FILE))
    environment = f"/usr/bin/env DOCKER_HOST={docker.host} HOME={tmp_path} "
    compose = environment + shlex.join([str(shutil.which(compose_command()[0])), *compose_command()[1:]])
    ready = script(
        tmp_path / "azaion-loader", f'cd {REPOSITORY}\nexec {sys.executable} -m loader "$@" 2>> {tmp_path}/told'
    )
    operator = unlock_device.start(docker.host)
    install(manager, unlock_device.remembered.parent, services, ready, compose, operator.loader.url)

    def image() -> str | None:
        containers = docker.client.containers.list(filters={"label": "com.docker.compose.service=app"})
        return containers[0].attrs["Image"] if containers else None

    try:
        # As at the start of a device: nobody has logged in.
        seal(unlock_device.archive, [OLD])
        manager.call("start", PATH.name)
        manager.call("start", "--no-block", SERVICE.name)
        told = tmp_path / "told"
        poll(lambda: told.exists() and "(NOT_LOGGED_IN)" in told.read_text(), SECONDS, "the unit waits for the login")
        assert (manager.state(SERVICE.name), image()) == ("activating", None)
        assert operator.unlock() == READY
        old = image_id(docker, APP)
        poll(lambda: image() == old, SECONDS, "the service runs")
        poll(lambda: manager.state(SERVICE.name) == "inactive", SECONDS, "the unit has ended")

        # An update, for which nobody starts the unit.
        seal(unlock_device.archive, [NEW])
        assert operator.unlock() == READY
        new = image_id(docker, APP)
        assert new != old
        poll(lambda: image() == new, SECONDS, "the service runs from the image of the update")
        poll(lambda: manager.state(SERVICE.name) == "inactive", SECONDS, "the unit has ended")
    finally:
        manager.run("stop", PATH.name, SERVICE.name)
        down = [*compose_command(), "--file", str(services / "docker-compose.yml"), "down"]
        subprocess.run(down, env=clean_env(tmp_path, DOCKER_HOST=docker.host), capture_output=True, check=True)
        remove_all_images(docker)
