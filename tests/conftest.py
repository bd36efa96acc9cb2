"""Fixtures shared by all tests: real engines, the real resource API, the loader under real gunicorn."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import engines
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.loader_server import LoaderServer
from tests.support.missing import not_run
from tests.support.recording_proxy import RecordingProxy
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import NO_ENGINE, NOBODY_LISTENS

# The summary of the run shows the value of every test property with this name.
TOLD = "told"
# `make test-fast` leaves out the tests with one of these fixtures or parameters, or in one of these places.
HEAVY_FIXTURES = {"docker_engine", "podman_engine", "docker_classic_26", "docker_containerd_26", "podman_5"}
# Values of parameters that name an engine, because such tests request the fixture by its name.
HEAVY_PARAMETERS = {"docker", "podman", *HEAVY_FIXTURES}
HEAVY_PLACES = (
    "api_client/test_slow_lines.py",
    "browser",
    "cli/test_faults.py",
    "deploy",
    "fetch",
    "model_cache/test_disk.py",
    "model_cache/test_faults.py",
    "model_cache/test_repair.py",
    "model_cache/test_resume.py",
    "model_cache/test_sharing.py",
    "project/test_demo.py",
    "project/test_package.py",
    "resource_api",
    "server",
    "support_tests",
    "web/test_guard_slots.py",
    "web/test_health_ready.py",
    "web/test_lock.py",
    "web/test_login_throttle.py",
    "web/test_resources_cuts.py",
    "web/test_resources_streaming.py",
    "web/test_upload_form_plaintext.py",
    "web/test_wsgi.py",
)
# `make test-long` runs the tests in these places, and `make test` the others.
LONG_PLACES = (
    "browser/test_looks.py",
    "crypto/test_fuzz.py",
    "crypto/test_memory.py",
    "deploy/test_container.py",
    "deploy/test_container_api.py",
    "fetch/test_killed.py",
    "fetch/test_large.py",
    "model_cache/test_no_growth.py",
    "model_cache/test_state_machine.py",
    "packing/test_configurations.py",
    "packing/test_matrix.py",
    "packing/test_matrix_whole.py",
    "packing/test_memory.py",
    "project/operations/test_commands.py",
    "project/test_soak.py",
    "unlock/engines/test_back.py",
    "unlock/engines/test_back_kills.py",
    "unlock/engines/test_back_room.py",
    "unlock/engines/test_broken_images.py",
    "unlock/engines/test_engine_kills.py",
    "unlock/engines/test_failures.py",
    "unlock/engines/test_foreign_names.py",
    "unlock/engines/test_full_disk.py",
    "unlock/engines/test_loader_kills.py",
    "unlock/engines/test_power_cuts.py",
    "unlock/engines/test_updates.py",
    "unlock/test_engine_faults.py",
    "unlock/test_interrupted.py",
    "unlock/test_killed.py",
    "unlock/test_large_archive.py",
    "unlock/test_names.py",
    "unlock/test_room.py",
    "unlock/test_tampering_everywhere.py",
    "web/test_hostile.py",
    "web/test_page_openapi_live.py",
)
# Files that take minutes. They start first, because one that starts last would keep one process busy while the others
# have ended.
LARGEST_PLACES = ("unlock/engines", "unlock/test_tampering_everywhere.py")
TESTS = Path(__file__).parent
# A hash of the real cost takes a core for a tenth of a second, at every login of a test.
ResourceApiServer.hashing = "scrypt:1024:8:1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Children inherit what is ignored, and a run in the background ignores SIGINT, which some tests send to children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StartLoader(Protocol):
    """The type of the fixture `start_loader`."""

    def __call__(self, *gunicorn_args: str, **env: str) -> LoaderServer:
        """Start one more loader for this test, with `env` on top of the defaults."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that the loader of a test is told to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which no loader trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """Yield a Docker engine that lasts for the session. Each test removes the images that it makes."""
    with engines.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[Engine]:
    """Yield a podman service that lasts for the session. Each test removes the images that it makes."""
    with engines.engine_of("podman_engine") as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_classic_26() -> Iterator[Engine]:
    """Yield a Docker 26.1 with the classic store, under the conditions of `docker_engine`."""
    with engines.engine_of("docker_classic_26") as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_containerd_26() -> Iterator[Engine]:
    """Yield a Docker 26.1 with the containerd store, under the conditions of `docker_engine`."""
    with engines.engine_of("docker_containerd_26") as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_5() -> Iterator[Engine]:
    """Yield a podman 5.4 service, under the conditions of `docker_engine`."""
    with engines.engine_of("podman_5") as engine:
        yield engine


@pytest.fixture
def recorded_docker(docker_engine: Engine, tmp_path: Path) -> Iterator[RecordingProxy]:
    """Yield a proxy in front of `docker_engine`.

    The loader gets the proxy's `host` as DOCKER_HOST, and the proxy's `sent` returns the requests of the loader.
    """
    with RecordingProxy(tmp_path / "docker.sock", docker_engine.socket) as proxy:
        yield proxy


@pytest.fixture
def resource_api(tmp_path: Path) -> Iterator[ResourceApiServer]:
    """Yield a reference API whose data directory has no users, no key fragment and no resources."""
    directory = tmp_path / "resource-api"
    directory.mkdir()
    with ResourceApiServer(directory) as server:
        yield server


@pytest.fixture
def device_dir(tmp_path: Path) -> Path:
    """Return the directory of a device: the empty cache `models` exists, and a test may add `images.enc`."""
    directory = tmp_path / "device"
    (directory / "models").mkdir(parents=True)
    return directory


@pytest.fixture
def start_loader(tmp_path: Path, device_dir: Path) -> Iterator[StartLoader]:
    """Yield a function that starts loaders on `device_dir`; they reach an API or an engine only if `env` names it.

    The next loader of a test finds the files of the first, once the first one has stopped. All are stopped after the
    test.
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


@cache
def stands_in(file: Path, places: tuple[str, ...]) -> bool:
    """Return whether `file` is one of `places`, or below one of them."""
    # It is cached, because thousands of tests stand in a few files.
    relative = file.relative_to(TESTS)
    return any(relative.is_relative_to(place) for place in places)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of LONG_PLACES as `long`, and those that need a browser, an engine or a container as `heavy`.

    The largest ones run first, and then the other heavy ones.
    """
    for item in items:
        if stands_in(item.path, LONG_PLACES):
            item.add_marker("long")
        fixtures = getattr(item, "fixturenames", [])
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if (
            HEAVY_FIXTURES.intersection(fixtures)
            or any(value in HEAVY_PARAMETERS for value in parameters if isinstance(value, str))
            or stands_in(item.path, HEAVY_PLACES + LONG_PLACES)
        ):
            item.add_marker("heavy")
    heavy_files = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: (not stands_in(item.path, LARGEST_PLACES), item.path not in heavy_files))


def pytest_collection_finish() -> None:
    """Leave the objects of the collection out of later garbage collections.

    There are millions of them, and each collection of a test would take 0.2 s to look at all of them.
    """
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Print, after everything else, the lines that tests reported and the tests that lacked a counterpart."""
    yield
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    for line in sorted({value for report in reports for name, value in report.user_properties if name == TOLD}):
        terminalreporter.line(line)
    lost = not_run(terminalreporter.stats.get("skipped", []))
    if lost:
        terminalreporter.section("NOT RUN: these counterparts are missing on this machine", red=True, bold=True)
        for message, tests in lost.items():
            terminalreporter.line(f"{message} (tests not run: {tests})", red=True, bold=True)
