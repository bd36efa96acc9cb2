"""The loader as on a device: a process of its own, under a real gunicorn or on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.http_probe import UNIX_PREFIX, http_status
from tests.support.planted import leaks
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.procfs import children

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "loader")
RUN_SECONDS = 60.0
READY_SECONDS = 30.0


class LoaderServer:
    """A running loader, which is ready (`GET /health` returned 200) when the constructor returns.

    `env` is its whole environment. Without LOADER_BIND it listens on a free port of 127.0.0.1; with HASTE some of its
    timeouts are shorter (see `hasty_gunicorn`). `gunicorn_args` are added to the command. Files in `directory` collect
    its output. Its code is that of `repository`. The end of the `with` block stops it.
    """

    def __init__(
        self, directory: Path, env: Mapping[str, str], *gunicorn_args: str, repository: Path = REPOSITORY
    ) -> None:
        self._places = [Path(env[name]) for name in ("MODEL_CACHE_DIR", "TMPDIR") if name in env]
        if "IMAGES_PATH" in env:
            self._places.append(Path(env["IMAGES_PATH"]).parent)
        self.engine_host = env.get("DOCKER_HOST", "")
        bind = env.get("LOADER_BIND", f"127.0.0.1:{free_port()}")
        self.url = bind if bind.startswith(UNIX_PREFIX) else f"http://{bind}"
        configuration = "tests/support/hasty_gunicorn.py" if "HASTE" in env else "gunicorn.conf.py"
        self.process = ManagedProcess(
            "loader",
            [sys.executable, "-m", "gunicorn", "-c", configuration, *gunicorn_args, "wsgi:app"],
            directory,
            env=clean_env(directory, **{**env, "LOADER_BIND": bind}),
            cwd=repository,
        )
        try:
            self.process.wait_until(lambda: http_status(self.url, "/health") == 200, READY_SECONDS, "/health is 200")
        except BaseException:
            self.stop()
            raise

    @property
    def master_pid(self) -> int:
        """The pid of gunicorn's master. Tests send signals to it."""
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The pid of the only worker, which keeps the state and handles the requests."""
        (worker,) = children(self.master_pid)
        return worker

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the complete lines of standard error so far, parsed. Raises ValueError if a line is not JSON."""
        complete, _, _ = self.process.stderr().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def stop(self) -> int:
        """Stop the loader by SIGTERM and return its exit code; if it has ended already, only return the code.

        Raises AssertionError if its output or its files contain a planted secret (see `tests.support.planted`).
        """
        code = self.process.stop()
        found = list(leaks(self.process.stdout_path, self.process.stderr_path, *self._places))
        assert not found, found
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_loader(home: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m loader` with `arguments`, without a terminal."""
    return run_python(home, "-m", "loader", *arguments, stdin=stdin, **env)


def run_python(home: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` in the repository to its end, with `env` as its whole environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        env=clean_env(home, **env),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
