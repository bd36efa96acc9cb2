"""The loader as it runs on a device: under a real gunicorn, in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.http_probe import UNIX_PREFIX, http_status
from tests.support.planted import leaks
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.procfs import children

REPOSITORY = Path(__file__).parents[2]
READY_SECONDS = 30.0


class LoaderServer:
    """A running loader. It is ready (`GET /health` answered 200) when the constructor returns; stops on leaving.

    `env` is its whole configuration. Without LOADER_BIND it listens on a free port of 127.0.0.1.
    `gunicorn_args` come after the command's own arguments. Its output lies in `directory`. When it stops, all that it
    has written, output and disk, is searched for planted secrets.
    """

    def __init__(self, directory: Path, env: Mapping[str, str], *gunicorn_args: str) -> None:
        self._places = [Path(env[name]) for name in ("MODEL_CACHE_DIR", "TMPDIR") if name in env]
        if "IMAGES_PATH" in env:
            self._places.append(Path(env["IMAGES_PATH"]).parent)
        bind = env.get("LOADER_BIND", f"127.0.0.1:{free_port()}")
        self.url = bind if bind.startswith(UNIX_PREFIX) else f"http://{bind}"
        self.process = ManagedProcess(
            "loader",
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *gunicorn_args, "wsgi:app"],
            directory,
            env=clean_env(directory, **{**env, "LOADER_BIND": bind}),
            cwd=REPOSITORY,
        )
        try:
            self.process.wait_until(lambda: http_status(self.url, "/health") == 200, READY_SECONDS, "/health is 200")
        except BaseException:
            self.stop()
            raise

    @property
    def master_pid(self) -> int:
        """The pid of gunicorn's master, which signals are sent to."""
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The pid of the one worker, which holds the state and does the work."""
        (worker,) = children(self.master_pid)
        return worker

    def log_lines(self) -> list[dict[str, Any]]:
        """The complete lines of standard error so far, each parsed; raises ValueError for a line that is not JSON."""
        complete, _, _ = self.process.stderr().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def stop(self) -> int:
        """Ends it by SIGTERM and returns the exit code; harmless if it has ended."""
        code = self.process.stop()
        found = list(leaks(self.process.stdout_path, self.process.stderr_path, *self._places))
        assert not found, found
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
