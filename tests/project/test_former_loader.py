"""The commands in docs/operations.md that make a new archive from one of the former loader, run as written."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from loader.packing.verify import read_index
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env

MANUAL = (REPOSITORY / "docs" / "operations.md").read_text()
SECTION = MANUAL.partition("## An archive of the former loader\n")[2].partition("\n## ")[0]
IMAGES = (
    HandmadeImage("former/app:1.4", (HandmadeLayer(b"former" * 1000, 300),)),
    HandmadeImage("former/db:1.4"),
)
FORMER_FRAGMENT = b"the fragment of the former loader\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a former archive, both fragments and the program."""
    iv = os.urandom(16)
    cipher = AES.new(hashlib.sha256(FORMER_FRAGMENT).digest(), AES.MODE_CBC, iv)
    (tmp_path / "former.enc").write_bytes(iv + cipher.encrypt(pad(b"".join(docker_archive(*IMAGES)), 16)))
    (tmp_path / "former.key").write_bytes(FORMER_FRAGMENT)
    (tmp_path / "fragment.key").write_bytes(os.urandom(32))
    program = tmp_path / "azaion-loader"
    program.write_text(f"#!{sys.executable}\nfrom loader.cli.main import run\nrun()\n")
    program.chmod(0o755)
    return tmp_path


def run_commands(directory: Path) -> subprocess.CompletedProcess[str]:
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    environment = clean_env(directory)
    environment |= {"PATH": f"{directory}:{environment['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        ["bash", "-c", commands], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_the_former_archive_becomes_a_new_one(directory: Path) -> None:
    done = run_commands(directory)
    assert done.returncode == 0, done.stderr
    assert read_index(directory / "images.enc").head.images == tuple(image.image for image in IMAGES)


@pytest.mark.parametrize(("file", "cut"), [("former.key", 1), ("former.enc", 10_000)])
def test_another_key_and_a_cut_archive_make_none(file: str, cut: int, directory: Path) -> None:
    (directory / file).write_bytes((directory / file).read_bytes()[:-cut])
    assert run_commands(directory).returncode != 0
    assert not (directory / "images.enc").exists()
    assert not [*directory.glob(".images.enc.*")]


def test_the_document_says_that_the_former_form_authenticates_nothing() -> None:
    assert "authenticates nothing" in " ".join(SECTION.split())
