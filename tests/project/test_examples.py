"""The programs in examples/, each as it stands, over a line that cuts every MiB."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import call, login, upload
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.narrow_line import NarrowLine
from tests.support.processes import ManagedProcess, clean_env
from tests.support.sites import Site, real_site

EXAMPLES = REPOSITORY / "examples"
MIB = 1 << 20
# Floating point numbers of 4 bytes, the mean of which is 1.5.
CONTENT = (b"\0\0\x80\x3f" + b"\0\0\0\x40") * (2 * MIB // 8 + 9000)
SECONDS = 90.0
LOADERS = {"load_model.sh": "sh", "load_model.py": sys.executable}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader that is ready and has a model. Its engine is a fake, because only its presence counts here."""
    directory = tmp_path_factory.mktemp("examples")
    engine = f"unix://{directory}/docker.sock"
    with FakeEngine(directory / "docker.sock", lambda _: None), real_site(directory, DOCKER_HOST=engine) as running:
        assert upload(running.url, "day", "model.f32", CONTENT).status == 200
        assert call(running.url, "GET", "/ready").status == 200
        yield running


@pytest.fixture
def line(site: Site) -> Iterator[NarrowLine]:
    """A line to the loader that cuts every MiB."""
    with NarrowLine(site.url, cut_every=MIB) as running:
        yield running


def environment(home: Path, url: str) -> dict[str, str]:
    # Packages such as numpy may be anywhere that this Python finds them.
    return clean_env(home, LOADER_URL=url, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))


def run(home: Path, url: str, *command: str) -> str:
    if command[0] == "sh" and shutil.which("curl") is None:
        missing("curl", "not installed")
    done = subprocess.run(
        command, env=environment(home, url), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", LOADERS)
def test_a_model_is_loaded_over_cuts_and_only_when_it_has_changed(
    site: Site, line: NarrowLine, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "model.f32"
    command = (LOADERS[name], str(EXAMPLES / name), "day/model.f32", str(file))
    run(tmp_path, line.url, *command)
    assert file.read_bytes() == CONTENT
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"model.f32", "model.f32.etag"}
    assert line.sent < len(CONTENT) + MIB
    inode, before = file.stat().st_ino, line.sent
    run(tmp_path, line.url, *command)
    assert file.stat().st_ino == inode
    assert line.sent - before < 8192
    assert upload(site.url, "day", "model.f32", CONTENT).status == 200
    run(tmp_path, line.url, *command)
    assert file.stat().st_ino != inode
    assert file.read_bytes() == CONTENT
    assert {path.name for path in tmp_path.iterdir()} == {"model.f32", "model.f32.etag"}


def test_a_model_is_streamed_into_an_array(line: NarrowLine, tmp_path: Path) -> None:
    if importlib.util.find_spec("numpy") is None:
        missing("numpy", "not installed")
    told = run(tmp_path, line.url, sys.executable, str(EXAMPLES / "load_array.py"), "day/model.f32")
    assert told == f"{len(CONTENT) // 4} weights, mean 1.500000\n"
    assert line.sent < len(CONTENT) + MIB


@pytest.mark.parametrize("name", LOADERS)
def test_an_example_waits_until_the_loader_is_ready(site: Site, tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.f32"
    command = [LOADERS[name], str(EXAMPLES / name), "day/model.f32", str(file)]
    assert call(site.url, "POST", "/lock").status == 200
    try:
        with ManagedProcess("example", command, tmp_path, env=environment(tmp_path, site.url)) as process:
            process.wait_until(
                lambda: any("/ready" in str(line) for line in site.loader.log_lines()[-5:]), SECONDS, "it asks"
            )
            assert not file.exists()
            assert login(site.url).status == 200
            assert process.wait(SECONDS) == 0, process.stderr()
    finally:
        login(site.url)
    assert file.read_bytes() == CONTENT


def test_the_shell_starts_again_if_the_model_changes_during_a_load(tmp_path: Path) -> None:
    """A fake loader, because the model changes between two requests of the program."""
    file, part = tmp_path / "model.f32", tmp_path / "model.f32.part"
    former, present = ({"ETag": f'"{digit * 64}"'} for digit in "ab")
    part.write_bytes(CONTENT[::-1][:MIB])
    Path(f"{part}.etag").write_text(former["ETag"] + "\n")
    whole = Fault(body=CONTENT, headers=present)
    with FaultyApi() as fake:
        fake.answer("GET", "/ready", Fault())
        fake.answer("HEAD", "/models/day/model.f32", Fault(body=CONTENT, headers=former), whole)
        fake.answer("GET", "/models/day/model.f32", whole)
        run(tmp_path, fake.url, "sh", str(EXAMPLES / "load_model.sh"), "day/model.f32", str(file))
    assert file.read_bytes() == CONTENT
    assert {path.name for path in tmp_path.iterdir()} == {"model.f32", "model.f32.etag"}


def test_a_model_that_is_not_there_ends_the_examples(site: Site, tmp_path: Path) -> None:
    for name, program in LOADERS.items():
        command = [program, str(EXAMPLES / name), "day/nothing", str(tmp_path / "file")]
        done = subprocess.run(
            command, env=environment(tmp_path, site.url), capture_output=True, timeout=SECONDS, check=False
        )
        assert done.returncode != 0
        assert not (tmp_path / "file").exists()
