"""Memory does not grow with the size of the images."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.loader_server import REPOSITORY

MIB = 1 << 20


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_large_image_needs_little_memory(codec: str, tmp_path: Path) -> None:
    noise = random.Random(3).randbytes(MIB // 2)  # noqa: S311  every run needs the same bytes
    image = HandmadeImage("memory/app:1", (HandmadeLayer(noise + bytes(MIB // 2), 200),))
    program = [sys.executable, "-m", "tests.packing.long_pack", codec, str(tmp_path / "images.enc")]
    with subprocess.Popen(program, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.writelines(docker_archive(image))
        child.stdin.close()
        grown = int(child.stdout.read())
    assert child.returncode == 0
    assert 0 < grown < 32 * MIB
    program = [sys.executable, "-m", "tests.packing.long_carry", str(tmp_path / "images.enc")]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 32 * MIB
