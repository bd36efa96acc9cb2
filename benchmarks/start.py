"""The time from the start of the loader to its first response, beside a bare server and the import of the packages."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

from benchmarks.measure import Contender, compare
from benchmarks.peers import REPOSITORY, RunFailed, process
from benchmarks.tables import Result
from benchmarks.workload import Workload
from tests.support.http_probe import http_status
from tests.support.processes import ManagedProcess, clean_env, free_port

PAUSE_SECONDS = 0.005
READY_SECONDS = 30.0
GUNICORN = (sys.executable, "-m", "gunicorn")
IMPORTS = "import flask, requests, docker, marshmallow, Crypto.Cipher.AES, gunicorn.app.wsgiapp"

# Starts a server that listens on the given address and keeps all its files in the given directory.
Start = Callable[[Path, str], ManagedProcess]


def start(work: Workload) -> Result:
    """Compare the loader, a bare application under gunicorn, and the import of the loader's packages."""
    with work.place("start") as place:
        ours = _contender("loader: start of gunicorn until GET /health is 200", start_loader, place)
        bare = _contender("a Flask application of one function, under gunicorn, likewise", start_bare, place)
        imports = process("python -c that imports the loader's packages, no more", 0, [sys.executable, "-c", IMPORTS])
        return compare("start the loader", work.rounds, ours, [lambda: bare, lambda: imports])


def start_loader(directory: Path, address: str) -> ManagedProcess:
    """Start the loader as the README does, by `azaion-loader serve`."""
    places = {"MODEL_CACHE_DIR": str(directory / "models"), "IMAGES_PATH": str(directory / "images.enc")}
    command = [sys.executable, "-m", "loader", "serve"]
    return ManagedProcess(
        "loader", command, directory, env=clean_env(directory, LOADER_BIND=address, **places), cwd=REPOSITORY
    )


def start_bare(directory: Path, address: str) -> ManagedProcess:
    """Start the bare application, with the worker class and the threads of the loader."""
    options = ("--worker-class", "gthread", "--threads", "32", "--no-control-socket")
    command = [*GUNICORN, *options, "--bind", address, "bare_app:app"]
    # It runs in another directory, because gunicorn would find the loader's settings in that of the repository.
    return ManagedProcess("bare", command, directory, env=clean_env(directory), cwd=REPOSITORY / "benchmarks")


@contextmanager
def answering(starts: Start, directory: Path) -> Iterator[ManagedProcess]:
    """Start a server, yield it when `GET /health` returns 200, and end it by its own pid. Raises RunFailed."""
    address = f"127.0.0.1:{free_port()}"
    deadline = time.monotonic() + READY_SECONDS
    with starts(directory, address) as server:
        # Connections are refused until the server listens, and then wait for its worker.
        while http_status(f"http://{address}", "/health") != HTTPStatus.OK:
            if server.returncode is not None or time.monotonic() > deadline:
                raise RunFailed(f"{server.name} does not start: {server.stderr()}")
            time.sleep(PAUSE_SECONDS)
        yield server


def _contender(name: str, starts: Start, directory: Path) -> Contender:
    return Contender(name, 0, partial(_seconds, starts, directory))


def _seconds(starts: Start, directory: Path) -> float:
    started = time.perf_counter()
    with answering(starts, directory):
        return time.perf_counter() - started
