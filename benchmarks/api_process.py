"""The resource API, run as its users run it, and the processor time that it takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import REPOSITORY, python
from benchmarks.servers import READY_SECONDS
from resource_api.data_directory import DataDirectory
from tests.support.http_probe import http_status
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.procfs import children

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ApiProcess:
    """A running server of one worker process."""

    process: ManagedProcess
    address: str
    worker: int
    log_file: Path

    def log(self) -> str:
        """Return the log so far."""
        return self.log_file.read_text()

    def processor_seconds(self) -> float:
        """Return the processor time that the worker has taken so far."""
        return processor_seconds(self.worker)

    def kill(self) -> None:
        """Kill the worker and its master, as a dying host does."""
        for pid in (self.process.pid, self.worker):
            os.kill(pid, signal.SIGKILL)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken so far (proc_pid_stat(5): utime and stime)."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / TICKS


@contextmanager
def served(directory: Path, data: DataDirectory) -> Iterator[ApiProcess]:
    """Run the resource API as its users do, with its log in `directory`."""
    directory.mkdir()
    address, log = f"127.0.0.1:{free_port()}", directory / "api.log"
    command = python("resource_api", "serve", data.root, "--bind", address, "--log", log)
    with ManagedProcess("resource-api", command, directory, env=clean_env(directory), cwd=REPOSITORY) as process:
        process.wait_until(lambda: http_status(f"http://{address}") is not None, READY_SECONDS, "the API responds")
        (worker,) = children(process.pid)
        yield ApiProcess(process, address, worker, log)
