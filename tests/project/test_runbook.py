"""The runbook for a captured device in docs/security.md, walked through command by command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loader.crypto.archive_seals import key_check
from resource_api.accounts import Role
from tests.conftest import StartLoader
from tests.support.engines import Engine
from tests.support.http_calls import post_json
from tests.support.images import image_id, import_image, remove_image
from tests.support.loader_server import LoaderServer
from tests.support.processes import clean_env
from tests.support.publishers import ANNA, write_key, write_publishers
from tests.support.resource_api_server import ResourceApiServer

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "security.md").read_text().partition("\n## A captured device\n")[2]
CAPTURED, OTHER, PASSWORD = "device-7@example.com", "device-8@example.com", "correct horse"
OLD_IMAGE, NEW_IMAGE = "registry.example/app:1.4", "registry.example/app:1.5"


def commands() -> list[str]:
    """Return the commands of the runbook, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


class Fleet:
    """A machine that packs, an API, and one directory for the files of both; devices start from there."""

    def __init__(self, directory: Path, engine: Engine, api: ResourceApiServer, start_loader: StartLoader) -> None:
        self.work = directory / "work"
        self.device = directory / "device"
        self._engine, self._api, self._start = engine, api, start_loader
        self.work.mkdir()
        programs = directory / "programs"
        programs.mkdir()
        for name, module in (("azaion-loader", "loader"), ("azaion-resource-api", "resource_api")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            (programs / name).chmod(0o755)
        self._env = clean_env(
            directory,
            DOCKER_HOST=engine.host,
            PYTHONPATH=str(ROOT),
            IMAGES_PATH=str(self.device / "images.enc"),
            PUBLISHER_KEYS=str(write_publishers(directory / "publishers")),
            API_VERSION="1.5",
        )
        self._env["PATH"] = f"{programs}{os.pathsep}{self._env['PATH']}"
        write_key(self.work / "anna.key", ANNA)

    def start(self, version: str) -> LoaderServer:
        """Start the loader of a device that expects this version."""
        return self._start(
            RESOURCE_API_URL=self._api.url,
            DOCKER_HOST=self._engine.host,
            API_VERSION=version,
            PUBLISHER_KEYS=self._env["PUBLISHER_KEYS"],
        )

    def try_run(self, line: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the directory of the files."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.work,
            env={**self._env, **env},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, line: str, stdin: str = "", **env: str) -> str:
        """Run a command, which must succeed, and return what it prints."""
        done = self.try_run(line, stdin, **env)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def fleet(docker_engine: Engine, resource_api: ResourceApiServer, start_loader: StartLoader, tmp_path: Path) -> Fleet:
    """The fleet before the capture: release 1.4 under the fragment that all devices get."""
    made = Fleet(tmp_path, docker_engine, resource_api, start_loader)
    for email in (CAPTURED, OTHER):
        resource_api.add_user(email, PASSWORD, Role.READER)
    import_image(docker_engine, OLD_IMAGE)
    made.run("azaion-loader key new -o old.key")
    made.run(f"azaion-loader images pack {OLD_IMAGE} --key old.key --sign anna.key -o 1.4.enc")
    resource_api.set_fragment((made.work / "old.key").read_bytes())
    remove_image(docker_engine, OLD_IMAGE)
    return made


@pytest.mark.long
def test_the_runbook_ends_what_a_captured_device_could_do(
    fleet: Fleet, docker_engine: Engine, resource_api: ResourceApiServer, device_dir: Path
) -> None:
    old = (fleet.work / "old.key").read_bytes()
    shutil.copyfile(fleet.work / "1.4.enc", device_dir / "images.enc")
    device = fleet.start("1.4")
    fleet.run(f"azaion-loader unlock --email {OTHER}", f"{PASSWORD}\n", LOADER_URL=device.url)
    remove_image(docker_engine, OLD_IMAGE)
    import_image(docker_engine, NEW_IMAGE, seed=1)
    image = image_id(docker_engine, NEW_IMAGE)

    printed = {}
    for line in commands():
        if line.startswith("azaion-loader images install"):
            remove_image(docker_engine, NEW_IMAGE)
        if line.startswith("azaion-loader unlock"):
            device.stop()
            device = fleet.start("1.5")
        command = line.replace(" DIR", f" {resource_api.data_dir}").replace("CHECK", key_check(old))
        printed[line] = fleet.run(command, f"{PASSWORD}\n", LOADER_URL=device.url)

    assert image_id(docker_engine, NEW_IMAGE) == image
    assert printed["azaion-resource-api key list DIR"].startswith(key_check(old))
    assert_captured_device_gets_nothing(fleet, resource_api)
    # The old release is no way back for anybody, whatever the account.
    remove_image(docker_engine, NEW_IMAGE)
    device.stop()
    shutil.copyfile(fleet.work / "1.4.enc", device_dir / "images.enc")
    for path in (device_dir / "models").iterdir():
        path.unlink()
    refused = fleet.start("1.4")
    done = fleet.try_run(f"azaion-loader unlock --email {OTHER}", f"{PASSWORD}\n", LOADER_URL=refused.url)
    assert "(KEY_MISMATCH)" in done.stderr


def assert_captured_device_gets_nothing(fleet: Fleet, resource_api: ResourceApiServer) -> None:
    """Neither the account nor the old fragment is of use for the new release, also not to make another one."""
    login = post_json(resource_api.url, "/login", {"email": CAPTURED, "password": PASSWORD})
    assert login.status == 401
    assert "(KEY_MISMATCH)" in fleet.try_run("azaion-loader images verify 1.5.enc --key old.key").stderr
    shown = [json.loads(fleet.run(f"azaion-loader images show {name} --json")) for name in ("1.4.enc", "1.5.enc")]
    assert shown[0]["root_id"] != shown[1]["root_id"]


def test_the_runbook_names_each_step() -> None:
    """A test of no command at all would pass too."""
    programs = [" ".join(line.split()[:3]) for line in commands()]
    assert programs == [
        "azaion-resource-api user disable",
        "azaion-loader key new",
        "azaion-loader images pack",
        "azaion-resource-api key add",
        "azaion-loader images install",
        "azaion-loader unlock --email",
        "azaion-resource-api key list",
        "azaion-resource-api key retire",
    ]
