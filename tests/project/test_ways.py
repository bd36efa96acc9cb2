"""A warm load and an unlock call functions of few files, so that a reader can follow each of them in one sitting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.conftest import TOLD
from tests.project.traced_requests import PUBLISHER, Functions
from tests.support.archives import VERSION, Packed
from tests.support.engines import Engine
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env
from tests.support.resource_api_server import ResourceApiServer
from tests.support.unlocking import PASSWORD

MAX_FILES_OF_A_LOAD = 25
MAX_FILES_OF_AN_UNLOCK = 54
TRACE_SECONDS = 120

pytest_plugins = ("tests.support.unlock_fixtures",)


@pytest.fixture
def traced(docker: Engine, packed: Packed, unlock_api: ResourceApiServer, tmp_path: Path) -> dict[str, Functions]:
    """The functions of the loader, by file, that an unlock and a warm load call with a real API and a real engine."""
    unlock_api.add_user(PUBLISHER, PASSWORD, Role.PUBLISHER)
    (tmp_path / "models").mkdir()
    settings = {
        "RESOURCE_API_URL": unlock_api.url,
        "DOCKER_HOST": docker.host,
        "IMAGES_PATH": str(packed.path),
        "MODEL_CACHE_DIR": str(tmp_path / "models"),
        "API_VERSION": VERSION,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.project.traced_requests"],
        cwd=REPOSITORY,
        env=clean_env(tmp_path, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=TRACE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    functions: dict[str, Functions] = json.loads(done.stdout)
    return functions


def test_a_warm_load_calls_functions_of_few_files(
    traced: dict[str, Functions], record_property: Callable[[str, object], None]
) -> None:
    files = traced["load"]
    record_property(TOLD, described("POST /load, warm", files, MAX_FILES_OF_A_LOAD))
    assert 0 < len(files) <= MAX_FILES_OF_A_LOAD, "\n".join(files)


def test_an_unlock_calls_functions_of_few_files(
    traced: dict[str, Functions], record_property: Callable[[str, object], None]
) -> None:
    files = traced["unlock"]
    record_property(TOLD, described("POST /unlock", files, MAX_FILES_OF_AN_UNLOCK))
    assert 0 < len(files) <= MAX_FILES_OF_AN_UNLOCK, "\n".join(files)


def described(request: str, files: Functions, limit: int) -> str:
    """Return the line that the summary of the test run shows."""
    functions = sum(map(len, files.values()))
    return f"{request}: {len(files)} files of loader/ (at most {limit}), {functions} functions"
