"""A root of Debian is made once, and whole or not at all.

The mmdebstrap is a fake, because the real one cannot fail on demand. test_engines.py uses the root of the real one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import engines
from tests.support.debian_13 import in_debian_13
from tests.support.debian_root import DebianUnavailable

# The sixth argument is the directory to make.
MAKES_USR = 'mkdir -p "$6/usr"; echo >>"$0.ran"'
FAILS = 'mkdir -p "$6/usr"; echo "no such release" >&2; exit 1'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory of made roots."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "azaion-loader"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path where a test writes what runs as mmdebstrap."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return tmp_path / "bin" / "mmdebstrap"


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def roots(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_several_callers_make_the_root_once(cache: Path, fake: Path) -> None:
    write_program(fake, MAKES_USR)
    with ThreadPoolExecutor(4) as pool:
        commands = list(pool.map(in_debian_13, [["true"]] * 4))
    (root,) = roots(cache)
    assert all(str(root / "usr") in command for command in commands)
    assert Path(f"{fake}.ran").read_text() == "\n"


def test_a_root_that_cannot_be_made_leaves_nothing(cache: Path, fake: Path) -> None:
    write_program(fake, FAILS)
    with pytest.raises(DebianUnavailable, match="no such release"):
        in_debian_13(["true"])
    assert roots(cache) == []
    write_program(fake, MAKES_USR)
    assert in_debian_13(["true"])


def test_a_test_of_a_newer_engine_is_missing_without_the_root(
    cache: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(fake, FAILS)
    monkeypatch.setenv("CI", "true")
    with (
        pytest.raises(pytest.fail.Exception, match=r"MISSING podman .*: no such release"),
        engines.engine_of("podman_5"),
    ):
        pass
    assert roots(cache) == []
