"""Fixtures shared by all tests: real engines, the real resource API, the loader under real gunicorn."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import engines
from tests.support.engines import Engine
from tests.support.loader_server import LoaderServer
from tests.support.missing import not_run
from tests.support.recording_proxy import RecordingProxy
from tests.support.resource_api_server import ResourceApiServer

NOBODY_LISTENS = "http://127.0.0.1:9"  # the port of the discard service: refused at once
NO_ENGINE = "unix:///nonexistent/docker.sock"
# A property of a test with this name is a line that the summary of the run shows.
TOLD = "told"
# `make test-fast` leaves out the tests with one of these fixtures or parameters, or in one of these places.
HEAVY_FIXTURES = {"docker_engine", "podman_engine"}
# Values of parameters that name an engine, because such tests request the fixture by its name.
HEAVY_PARAMETERS = ("docker", "podman")
HEAVY_PLACES = (
    "browser",
    "crypto/test_fuzz.py",
    "deploy",
    "model_cache/test_disk.py",
    "model_cache/test_faults.py",
    "model_cache/test_no_growth.py",
    "model_cache/test_repair.py",
    "model_cache/test_sharing.py",
    "model_cache/test_two_processes.py",
    "project/test_demo.py",
    "project/test_soak.py",
    "resource_api/test_server.py",
    "server",
    "web/test_hostile.py",
    "web/test_page_openapi_live.py",
    "web/test_guard_slots.py",
    "web/test_resources_cuts.py",
    "web/test_resources_streaming.py",
)
TESTS = Path(__file__).parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Children inherit what is ignored, and a run in the background ignores SIGINT, which some tests send to children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StartLoader(Protocol):
    """The type of the fixture `start_loader`."""

    def __call__(self, *gunicorn_args: str, **env: str) -> LoaderServer:
        """Starts one more loader of this test."""


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker engine for the whole session; tests remove the images that they make."""
    with engines.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[Engine]:
    """A podman service for the whole session; tests remove the images that they make."""
    with engines.podman_engine() as engine:
        yield engine


@pytest.fixture
def recorded_docker(docker_engine: Engine, tmp_path: Path) -> Iterator[RecordingProxy]:
    """A proxy in front of `docker_engine`: give the loader its `host` as DOCKER_HOST, ask it what was `sent`."""
    with RecordingProxy(tmp_path / "docker.sock", docker_engine.socket) as proxy:
        yield proxy


@pytest.fixture
def resource_api(tmp_path: Path) -> Iterator[ResourceApiServer]:
    """A reference API with a fresh data directory, without users, key fragment or resources."""
    directory = tmp_path / "resource-api"
    directory.mkdir()
    with ResourceApiServer(directory) as server:
        yield server


@pytest.fixture
def device_dir(tmp_path: Path) -> Path:
    """The disk of a device: `images.enc` belongs there, and the empty cache directory `models` is there already."""
    directory = tmp_path / "device"
    (directory / "models").mkdir(parents=True)
    return directory


@pytest.fixture
def start_loader(tmp_path: Path, device_dir: Path) -> Iterator[StartLoader]:
    """Starts loaders on `device_dir`, to which neither an API nor an engine answers unless `env` names them.

    A second loader of one test finds what the first has left on the disk. All are stopped after the test.
    """
    with ExitStack() as running:
        count = 0

        def start(*gunicorn_args: str, **env: str) -> LoaderServer:
            nonlocal count
            count += 1
            directory = tmp_path / f"loader-{count}"
            directory.mkdir()
            defaults = {
                "IMAGES_PATH": str(device_dir / "images.enc"),
                "MODEL_CACHE_DIR": str(device_dir / "models"),
                "RESOURCE_API_URL": NOBODY_LISTENS,
                "DOCKER_HOST": NO_ENGINE,
            }
            return running.enter_context(LoaderServer(directory, {**defaults, **env}, *gunicorn_args))

        yield start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a browser, an engine or a container, and those that take long, as `heavy`."""
    places = [TESTS / place for place in HEAVY_PLACES]
    for item in items:
        fixtures = getattr(item, "fixturenames", [])
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if (
            HEAVY_FIXTURES.intersection(fixtures)
            or any(value in HEAVY_PARAMETERS for value in parameters if isinstance(value, str))
            or any(item.path.is_relative_to(place) for place in places)
        ):
            item.add_marker("heavy")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Prints, after everything else, what tests have to tell, and what was not run for lack of a counterpart."""
    yield
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    for line in sorted({value for report in reports for name, value in report.user_properties if name == TOLD}):
        terminalreporter.line(line)
    lost = not_run(terminalreporter.stats.get("skipped", []))
    if lost:
        terminalreporter.section("NOT RUN: these counterparts are missing on this machine", red=True, bold=True)
        for message, tests in lost.items():
            terminalreporter.line(f"{message} (tests not run: {tests})", red=True, bold=True)
