"""The Makefile: `make help` names every target, and `make lint` runs every check."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HEAVY_PLACES, TESTS
from tests.support.loader_server import REPOSITORY
from tools import arm64

MAKEFILE = (REPOSITORY / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE)
TOOLS = ("ruff", "mypy", "bandit", "biome", "python")
CALLS = ["ruff check", "ruff format", "mypy", "bandit --quiet", "biome lint", "python -m"]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_help_names_every_target() -> None:
    assert re.findall(r"^make ([a-z0-9-]+) +\S", make("help").stdout, re.MULTILINE) == TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    checks = re.search(r"^CHECKS := (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert checks is not None
    assert set(phony[1].replace("$(CHECKS)", checks[1]).split()) == set(TARGETS)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment whose programs add their name and first argument to `calls`, and fail if told to."""
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\necho {name} $1 >> {tmp_path}/calls\ntest ! -e {tmp_path}/fail-{name}\n")
        program.chmod(0o755)
    (tmp_path / ".requirements-installed").touch()
    return tmp_path


@pytest.mark.parametrize("failing", [None, *TOOLS])
def test_lint_runs_every_check_and_fails_if_one_fails(environment: Path, failing: str | None) -> None:
    if failing is not None:
        (environment / f"fail-{failing}").touch()
    done = make("lint", f"VENV={environment}")
    assert sorted(line.strip() for line in (environment / "calls").read_text().splitlines()) == sorted(CALLS)
    assert (done.returncode == 0) is (failing is None)


def test_the_places_that_test_fast_leaves_out_exist() -> None:
    assert [place for place in HEAVY_PLACES if not (TESTS / place).exists()] == []


def test_the_tests_of_make_arm64_exist() -> None:
    assert [test for test in arm64.TESTS if not (REPOSITORY / test).exists()] == []


def test_a_test_is_fast_unless_it_is_known_to_be_heavy(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("heavy") is None
