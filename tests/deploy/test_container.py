"""The container image, built as `make image` builds it, and run as deploy/compose.yaml says."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from loader.version import VERSION
from tests.deploy.base_image import PYTHON
from tests.deploy.careless_checkout import PLANTED
from tests.deploy.composed import IMAGE, USER, Composed
from tests.support.archives import Packed, remove_all_images
from tests.support.engines import Engine
from tests.support.images import image_id
from tests.support.loader_server import REPOSITORY
from tests.support.unlocking import READY, Caller

pytest_plugins = ("tests.support.unlock_fixtures", "tests.deploy.container_fixtures")

MIB = 1 << 20
GRACE_SECONDS = 40
WRITABLE = {"opt/azaion", "opt/azaion/models", "run/azaion-loader"}


def test_the_image_has_its_labels_user_health_check_and_command(image: dict[str, Any]) -> None:
    config = image["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["User"] == f"{USER}:{USER}"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "healthcheck.py"]
    assert config["Cmd"] == ["azaion-loader", "serve"]


def test_the_image_is_small(engine: Engine, image: dict[str, Any]) -> None:
    base = engine.client.api.inspect_image(PYTHON)
    assert 10 * MIB < image["Size"] - base["Size"] < 30 * MIB


@pytest.fixture(scope="module")
def layers(engine: Engine, image: dict[str, Any]) -> list[tarfile.TarFile]:
    """The layers of the image above its base."""
    base = len(engine.client.api.inspect_image(PYTHON)["RootFS"]["Layers"])
    saved = tarfile.open(fileobj=io.BytesIO(b"".join(engine.client.images.get(image["Id"]).save())))  # noqa: SIM115

    def member(name: str) -> bytes:
        file = saved.extractfile(name)
        assert file is not None
        return file.read()

    (manifest,) = json.loads(member("manifest.json"))
    return [tarfile.open(fileobj=io.BytesIO(member(name))) for name in manifest["Layers"][base:]]


def test_the_layers_have_the_loader_and_no_stray_file_of_the_checkout(layers: list[tarfile.TarFile]) -> None:
    files = {entry.name: entry for layer in layers for entry in layer}
    parts = {part for name in files for part in Path(name).parts}
    assert parts.isdisjoint({".git", ".env", ".cache", "pip", "tests", "SelfTest", "resource_api", "fragment.key"})
    contents = [file.read() for layer in layers for entry in layer if (file := layer.extractfile(entry))]
    assert not [content for content in contents if PLANTED in content]
    # The search finds what is there.
    assert [content for content in contents if (REPOSITORY / "loader/server/wsgi.py").read_bytes() == content]
    packages = "srv/azaion-loader/packages"
    assert {f"{packages}/flask", f"{packages}/loader/unlock/run.py", f"{packages}/loader/web/openapi.json"} <= set(
        files
    )


def test_the_user_owns_the_data_only_and_may_read_the_rest(layers: list[tarfile.TarFile]) -> None:
    entries = [entry for layer in layers for entry in layer]
    assert {entry.name for entry in entries if entry.uid == USER} == WRITABLE
    others = [entry for entry in entries if entry.uid != USER and not entry.issym()]
    assert not [entry.name for entry in others if entry.mode & 0o022 or not entry.mode & 0o004]


def test_every_module_has_its_bytecode(layers: list[tarfile.TarFile]) -> None:
    names = {entry.name for layer in layers for entry in layer}
    compiled = {str(Path(name).parents[1] / Path(name).name.split(".cpython-")[0]) for name in names if ".pyc" in name}
    assert {name.removesuffix(".py") for name in names if name.endswith(".py")} == compiled


def execute(running: Composed, code: str, **env: str) -> tuple[int, str]:
    """Run Python code in the container of the loader, and return exit code and output."""
    done = running.loader.exec_run(["python", "-c", code], environment=env)
    return done.exit_code, done.output.decode()


def test_it_runs_without_privileges(running: Composed) -> None:
    _, status = execute(running, "print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {str(USER)}
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("path", "writable"),
    [("/x", False), ("/srv/azaion-loader/x", False), ("/tmp/x", True), ("/opt/azaion/x", True)],
)
def test_it_can_write_to_its_data_only(running: Composed, path: str, writable: bool) -> None:
    code, output = execute(running, f"import os; open({path!r}, 'w'); os.remove({path!r})")
    assert (code == 0) is writable, output
    assert writable or "Read-only file system" in output


def test_the_command_runs_in_the_container(running: Composed) -> None:
    done = running.loader.exec_run(["azaion-loader", "status"])
    assert (done.exit_code, done.output.splitlines()[:2]) == (0, [b"login: nobody has logged in", b"unlock: idle"])


@pytest.mark.parametrize("bind", ["127.0.0.1:9", "0.0.0.0:9", "[::]:9", "unix:/run/azaion-loader/no.sock"])
def test_the_health_check_fails_without_a_loader(running: Composed, bind: str) -> None:
    done = running.loader.exec_run(["python", "healthcheck.py"], environment={"LOADER_BIND": bind})
    assert (done.exit_code, done.output) == (1, b"")


def test_nginx_reaches_the_loader(engine: Engine, running: Composed) -> None:
    (port,) = running.nginx.attrs["Config"]["ExposedPorts"]
    code = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port.partition('/')[0]}/health').read())"
    network = f"container:{running.nginx.id}"
    # `docker run` on the side of nginx, because its own container has no network and no client.
    assert b"healthy" in engine.client.containers.run(IMAGE, ["python", "-c", code], network_mode=network, remove=True)


def test_an_unlock_reaches_the_engine_through_the_mounted_socket(
    engine: Engine, running: Composed, device_disk: Path, packed: Packed
) -> None:
    shutil.copyfile(packed.path, device_disk / "images.enc")
    assert Caller(running.url).unlock() == READY
    for each in packed.images:
        assert image_id(engine, each.reference) in each.ids
    remove_all_images(engine)


def test_it_stops_gracefully(running: Composed) -> None:
    begin = time.monotonic()
    assert running.stop() == 0  # 137, if it had been killed at the end of its time
    assert time.monotonic() - begin < GRACE_SECONDS
    assert "Shutting down: Master" in [line["message"] for line in running.log_lines()]
    assert not Path(running.url.removeprefix("unix:")).exists()
    running.run("start", "loader")
