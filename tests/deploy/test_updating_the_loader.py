"""The commands of "Updating the loader" in docs/operations.md, with a real systemd, a real engine and compose."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from loader.version import VERSION
from resource_api.accounts import Role
from tests.deploy.composed import Composed
from tests.deploy.test_service import UNIT
from tests.deploy.user_manager import UserManager, user_manager
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.http_calls import CREDENTIALS, EMAIL, PASSWORD, call, post_json, upload
from tests.support.http_probe import http_status
from tests.support.images import image_id, remove_image
from tests.support.loader_server import REPOSITORY
from tests.support.processes import free_port, poll
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import NO_ENGINE
from tests.support.unlocking import READY, Caller

pytest_plugins = ("tests.support.unlock_fixtures", "tests.deploy.container_fixtures")
pytestmark = pytest.mark.long

SECTION = (REPOSITORY / "docs/operations.md").read_text().split("## Updating the loader\n")[1].split("\n## ")[0]
SECONDS = 60.0
MIB = 1 << 20
# More than the buffers of a connection hold.
CONTENT = bytes(range(256)) * (48 * MIB // 256)
LATEST = "azaion-loader:latest"
# The document names the version of today as the new one.
OLDER = "0.1.0"


def install(directory: Path, version: str) -> None:
    """Make an environment with the loader as pip does, but with the packages that are installed here."""
    venv.create(directory, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)}))
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(REPOSITORY / "loader", packages / "loader", ignore=shutil.ignore_patterns("__pycache__"))
    text = (packages / "loader/version.py").read_text()
    assert VERSION in text
    (packages / "loader/version.py").write_text(text.replace(VERSION, version))
    program = directory / "bin/azaion-loader"
    program.write_text(f"#!{directory}/bin/python\nfrom loader.cli.main import run\nrun()\n")
    program.chmod(0o755)


def unit(root: Path, device: Path, url: str, api: str) -> str:
    """Return the unit of the loader without its confinement, which needs the first process of the machine."""
    kept = ("Type", "ExecStart", "Restart", "RestartSec", "KillMode", "TimeoutStopSec")
    lines = re.findall(rf"^(?:{'|'.join(kept)})=.*$", UNIT.read_text(), re.MULTILINE)
    assert len(lines) == len(kept)
    env = {"LOADER_BIND": url.removeprefix("http://"), "RESOURCE_API_URL": api, "DOCKER_HOST": NO_ENGINE}
    env |= {"IMAGES_PATH": f"{device}/images.enc", "MODEL_CACHE_DIR": f"{device}/models", "API_VERSION": "1.4"}
    text = "\n".join(["[Service]", *lines, *(f"Environment={name}={value}" for name, value in env.items()), ""])
    return text.replace("/srv/azaion-loader", str(root))


def switch(manager: UserManager, root: Path) -> None:
    """Run the last three commands of the document's first block, with `root` in place of /srv/azaion-loader."""
    block = SECTION.split("```\n")[1]
    *links, restart = [line for line in block.splitlines() if not re.search("python3|pip", line)]
    assert [line.split()[0] for line in links] == ["ln", "mv"]
    for line in links:
        subprocess.run(line.replace("/srv/azaion-loader", str(root)).split(), check=True)
    assert restart == "systemctl restart azaion-loader"
    manager.call("restart", "--no-block", "azaion-loader")


def test_a_new_version_beside_the_old_takes_its_place_while_a_load_ends(tmp_path: Path) -> None:
    root, device, url = tmp_path / "srv", tmp_path / "device", f"http://127.0.0.1:{free_port()}"
    device.mkdir()
    for version in (OLDER, VERSION):
        install(root / version, version)
    (root / ".venv").symlink_to(OLDER)
    with ResourceApiServer(tmp_path) as api, user_manager() as manager:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        (manager.units / UNIT.name).write_text(unit(root, device, url, api.url))
        manager.call("daemon-reload")
        manager.call("start", "azaion-loader")
        assert call(url, "GET", "/status").json()["version"] == OLDER
        assert post_json(url, "/login", CREDENTIALS).status == 200
        assert upload(url, "day", "model", CONTENT).status == 200
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("GET", "/models/day/model")
        response = connection.getresponse()
        got = [response.read(MIB)]

        switch(manager, root)
        poll(lambda: manager.state("azaion-loader") == "deactivating", SECONDS, "the old version is told to end")
        got.append(response.read())
        connection.close()
        assert hashlib.sha256(b"".join(got)).digest() == hashlib.sha256(CONTENT).digest()

        poll(lambda: http_status(url, "/health") == 200, SECONDS, "the new version responds")
        status = call(url, "GET", "/status").json()
        assert (status["version"], status["authenticated"]) == (VERSION, False)
        assert status["cache"]["entries"] == 1
        manager.call("stop", "azaion-loader")


def test_the_image_of_the_loader_is_one_of_a_release(
    engine: Engine, running: Composed, device_disk: Path, tmp_path: Path
) -> None:
    old = image_id(engine, LATEST)
    container = engine.client.api.create_container(old)
    new = engine.client.api.commit(container["Id"], repository="azaion-loader", tag="latest", message="newer")["Id"]
    engine.client.api.remove_container(container["Id"])
    assert new != old
    try:
        pack(engine, tmp_path, device_disk / "images.enc")
        # The device has the older loader, which runs.
        engine.client.api.tag(old, "azaion-loader", "latest")
        engine.client.api.remove_image(new)
        assert (running.loader.attrs["Image"], image_id(engine, LATEST)) == (old, old)
        assert Caller(running.url).unlock() == READY
        assert (running.loader.attrs["Image"], image_id(engine, LATEST)) == (old, new)

        first, second = SECTION.split("```\n")[3].splitlines()
        for line in (first, second):
            _, arguments = line.split("docker compose --file deploy/compose.yaml ")
            running.run(*arguments.split())
        assert running.loader.attrs["Image"] == new
        poll(lambda: running.health() == "healthy", SECONDS, "the new loader is healthy")
        url = f"unix:/proc/{running.loader.attrs['State']['Pid']}/root/run/azaion-loader/loader.sock"
        status = call(url, "GET", "/status").json()
        assert (status["version"], status["authenticated"]) == (VERSION, False)
        assert engine.client.images.get(str(old)).tags == [f"azaion-loader:{VERSION}"]
    finally:
        engine.client.api.tag(old, "azaion-loader", "latest")
        running.run("up", "--detach", "loader")
        remove_image(engine, str(new))


def pack(engine: Engine, directory: Path, archive: Path) -> None:
    """Pack the loader's image into `archive`, which the loader in the container can read."""
    (directory / "key").write_bytes(FRAGMENT)
    command = [sys.executable, "-m", "loader", "images", "pack", LATEST, "--version", "1.4"]
    command += ["--key", str(directory / "key"), "-o", str(archive)]
    env = {**os.environ, "DOCKER_HOST": engine.host}
    subprocess.run(command, cwd=REPOSITORY, env=env, check=True, capture_output=True)
    archive.chmod(0o644)
