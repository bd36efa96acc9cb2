"""Memory does not grow with the length of a stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1_048_576
PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("work", ["seal", "open"])
def test_a_long_stream_needs_little_memory(work: str) -> None:
    program = [sys.executable, "-m", "tests.crypto.long_stream", work, str(256 * MIB)]
    grown = subprocess.run(program, cwd=PROJECT, check=True, capture_output=True, text=True, timeout=120).stdout
    assert 0 < int(grown) < 16 * MIB
