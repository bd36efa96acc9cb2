"""Memory does not grow with the length of a stream or with the size of a blob."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1_048_576
PROJECT = Path(__file__).parents[2]


def grown(program: str, *arguments: str) -> int:
    """Return what a program says by how many bytes its memory has grown."""
    command = [sys.executable, "-m", f"tests.crypto.{program}", *arguments]
    return int(subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True, timeout=120).stdout)


@pytest.mark.parametrize("work", ["seal", "open"])
def test_a_long_stream_needs_little_memory(work: str) -> None:
    assert 0 < grown("long_stream", work, str(256 * MIB)) < 16 * MIB


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_large_blob_needs_little_memory(tmp_path: Path, codec: str) -> None:
    assert grown("long_archive", codec, str(tmp_path), str(128 * MIB)) < 16 * MIB
