"""The examples of the README and the manuals, run as written except for the address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.conftest import StartLoader
from tests.support.engines import Engine
from tests.support.images import image_id, import_image, remove_image
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer
from tools.demo import __main__ as demo
from tools.demo.servers import LOADER_PORT, LOOPBACK

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
EMAIL, PASSWORD = "operator@example.com", "correct horse"
REFERENCE = "readme.example/app:1.4"


def curl_lines() -> list[str]:
    """Return the curl commands of all code blocks, those of the README first."""
    manuals = sorted((ROOT / "docs").glob("*.md"))
    blocks = re.findall(
        r"^```\w*\n(.*?)^```", "".join([README, *(path.read_text() for path in manuals)]), re.DOTALL | re.M
    )
    return [line for block in blocks for line in block.splitlines() if re.match(rf"curl (-f )?{ADDRESS}", line)]


def run(line: str, directory: Path) -> str:
    """Run a command and return its output; it must succeed, and curl must see no error status."""
    # curl refuses -f beside --fail-with-body.
    fail = "" if " -f " in line else "--fail-with-body "
    command = line.replace("curl ", f"curl --silent --show-error {fail}", 1)
    done = subprocess.run(["bash", "-c", command], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def test_the_readme_and_the_demo_use_the_same_port_and_account() -> None:
    assert f"http://{LOOPBACK}:{LOADER_PORT}" == ADDRESS
    assert (demo.EMAIL, demo.PASSWORD) == (EMAIL, PASSWORD)
    addresses = {*re.findall(r"[a-z]+@example\.com", README), *re.findall(r"--email (\S+)`", README)}
    assert addresses == {EMAIL}
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", README)) == {str(LOADER_PORT)}


def test_the_section_on_a_new_archive_names_the_setting_that_must_change() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    (section,) = re.findall(r"^## A new archive$(.*?)^## ", operations, re.MULTILINE | re.DOTALL)
    assert section.strip().startswith("Set `API_VERSION` to its version and restart the loader")


def test_an_example_that_writes_a_file_writes_no_error_into_it() -> None:
    writing = [line for line in curl_lines() if " -o " in line]
    assert writing
    assert all(" -f " in line for line in writing)


def test_both_forms_of_compose_are_documented() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert "write `docker-compose` in place of `docker compose`" in operations


def test_there_is_an_example_for_every_endpoint() -> None:
    described = set(re.findall(r"^\| `(?:GET|POST) (/[a-z/]+)", README, re.MULTILINE))
    shown = {line.split(ADDRESS)[1].split()[0] for line in curl_lines()}
    missing = {path for path in described if not any(example.startswith(path) for example in shown)}
    # The examples run one after the other, and these two would undo the unlock before them.
    assert missing <= {"/status", "/unlock/cancel", "/unlock/back"}


def test_the_table_has_every_endpoint() -> None:
    paths = json.loads((ROOT / "loader" / "web" / "openapi.json").read_text())["paths"]
    described = {f"{method.upper()} {path}" for path in paths for method in paths[path] if method in ("get", "post")}
    documented = {without_names(row) for row in re.findall(r"^\| `((?:GET|POST) \S+)`", README, re.MULTILINE)}
    assert {without_names(row) for row in described} - documented == set()


def without_names(row: str) -> str:
    """Return a row without the names of its parameters; those of a path with slashes count as one."""
    return re.sub(r"\{[^ ]*\}", "{}", row)


@pytest.fixture
def packed_image(docker_engine: Engine, device_dir: Path, resource_api: ResourceApiServer) -> str:
    """Pack an image into an archive on the device, remove it from the engine, and return its ID."""
    fragment = device_dir.parent / "fragment.key"
    import_image(docker_engine, REFERENCE)
    image = image_id(docker_engine, REFERENCE)
    for arguments in (
        ["key", "new", "-o", str(fragment)],
        ["images", "pack", REFERENCE, "--key", str(fragment), "-o", str(device_dir / "images.enc")],
    ):
        subprocess.run(
            [sys.executable, "-m", "loader", *arguments],
            cwd=ROOT,
            env={"DOCKER_HOST": docker_engine.host},
            check=True,
            capture_output=True,
        )
    remove_image(docker_engine, REFERENCE)
    resource_api.set_fragment(fragment.read_bytes())
    return image


def test_the_examples_work_as_written(
    resource_api: ResourceApiServer,
    docker_engine: Engine,
    packed_image: str,
    start_loader: StartLoader,
    tmp_path: Path,
) -> None:
    resource_api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    loader = start_loader(RESOURCE_API_URL=resource_api.url, DOCKER_HOST=docker_engine.host, API_VERSION="1.4")
    work = tmp_path / "work"
    work.mkdir()
    (work / "model.onnx").write_bytes(bytes(range(256)) * 20_000)
    outputs = [run(line.replace(ADDRESS, loader.url), work) for line in curl_lines()]
    assert (work / "loaded.onnx").read_bytes() == (work / "model.onnx").read_bytes()
    assert json.loads(outputs[0]) == {"status": "healthy"}

    def state() -> str:
        return str(json.loads(run(f"curl {loader.url}/unlock/status", work))["state"])

    load = next(line for line in curl_lines() if "/load/" in line)
    missing = subprocess.run(
        ["bash", "-c", load.replace(ADDRESS, loader.url).replace("model.onnx", "missing").replace("loaded", "absent")],
        cwd=work,
        capture_output=True,
        check=False,
    )
    assert missing.returncode != 0
    assert not (work / "absent.onnx").exists(), "an error must not be taken for a model"

    poll(lambda: state() in ("ready", "error"), 30, "the unlock ends")
    assert state() == "ready"
    assert image_id(docker_engine, REFERENCE) == packed_image
    remove_image(docker_engine, REFERENCE)
