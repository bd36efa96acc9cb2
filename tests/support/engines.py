"""Container engines for the tests: private dockerds and podmans, each below one temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import docker

from tests.support.engine_kinds import KINDS, EngineUnavailable, Kind
from tests.support.http_probe import UNIX_PREFIX, http_status, socket_path
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, poll
from tests.support.procfs import descendants, is_running

READY_SECONDS = 60.0
CALL_SECONDS = 300
SYSTEM_DOCKER_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Engine:
    """A running engine that speaks Docker's API on a unix socket.

    All tests share `client`, and several threads may call it. `process` is None if the tests did not start the
    engine: it runs before and after them, and may contain images that do not belong to them.
    """

    name: str
    host: str
    client: docker.DockerClient
    process: ManagedProcess | None

    @property
    def socket(self) -> Path:
        """The path of the engine's socket."""
        return Path(socket_path(self.host))

    def kill(self) -> None:
        """Send SIGKILL to the engine, and wait until its helpers have ended too."""
        assert self.process is not None
        helpers = descendants(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(READY_SECONDS)
        poll(lambda: not any(map(is_running, helpers)), READY_SECONDS, f"the helpers of {self.name} have ended")

    def restart(self) -> None:
        """Start the engine with the same data after `kill`, as after a power cut, and return when it responds."""
        assert self.process is not None
        # dockerd would wait in vain for the containerd whose process ID and socket stand there.
        shutil.rmtree(self.socket.with_name("exec"), ignore_errors=True)
        self.socket.unlink()  # podman does not replace the socket that a killed one has left
        self.process.restart()
        _wait_until_ready(self.process, self.host)


# The engines that the tests started and that have not been stopped, by their hosts.
RUNNING: dict[str, Engine] = {}


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """Yield a private dockerd; if it cannot run, the engine of DOCKER_HOST or of the system.

    Calls `missing` if there is no engine at all.
    """
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine(KINDS["docker_engine"]))
        except EngineUnavailable as exc:
            engine = running.enter_context(_system_docker(str(exc)))
        yield engine


@contextmanager
def engine_of(kind: str, data: Path | None = None, spool: Path | None = None) -> Iterator[Engine]:
    """Yield a private engine of a kind in `KINDS`. Calls `missing` if it cannot run.

    It keeps its images at `data` and its temporary files at `spool`, by default in a directory of its own.
    """
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine(KINDS[kind], data, spool))
        except EngineUnavailable as exc:
            missing(KINDS[kind].title, str(exc))
        yield engine


@contextmanager
def _private_engine(kind: Kind, data: Path | None = None, spool: Path | None = None) -> Iterator[Engine]:
    # Use a short path directly below TMPDIR, because the engines create unix sockets deep inside it, and the path of
    # a unix socket may have at most 107 characters.
    directory = Path(tempfile.mkdtemp(prefix=f"{kind.name}-"))
    host = f"unix://{directory}/{kind.name}.sock"
    try:
        command = kind.command(directory, host, data or directory / "data")
        with _started(kind.name, command, directory, host, spool) as process, _client(host) as client:
            RUNNING[host] = Engine(kind.name, host, client, process)
            yield RUNNING[host]
    finally:
        RUNNING.pop(host, None)
        _unmount_below(directory)
        shutil.rmtree(directory)


@contextmanager
def _started(name: str, command: list[str], directory: Path, host: str, spool: Path | None) -> Iterator[ManagedProcess]:
    if shutil.which(command[0]) is None:
        raise EngineUnavailable(f"{command[0]} is not installed")
    if os.geteuid() != 0:
        raise EngineUnavailable(f"a private {command[0]} needs root")
    env = clean_env(directory, TMPDIR=str(spool or directory))  # podman writes uploads there and does not remove them
    with ManagedProcess(name, command, directory, env=env) as process:
        try:
            _wait_until_ready(process, host)
        except AssertionError as exc:
            raise EngineUnavailable(f"{name} does not start: {str(exc).splitlines()[-1]}") from exc
        yield process


def _wait_until_ready(process: ManagedProcess, host: str) -> None:
    responds = f"{process.name} responds"
    process.wait_until(lambda: http_status(host, "/_ping") == HTTPStatus.OK, READY_SECONDS, responds)


@contextmanager
def _system_docker(why_not_private: str) -> Iterator[Engine]:
    host = os.environ.get("DOCKER_HOST") or SYSTEM_DOCKER_SOCKET
    if not host.startswith(UNIX_PREFIX) or http_status(host, "/_ping") != HTTPStatus.OK:
        missing("docker engine", f"{why_not_private}, and {host} does not respond on a unix socket")
    with _client(host) as client:
        yield Engine("docker", host, client, None)


def _client(host: str) -> AbstractContextManager[docker.DockerClient]:
    return closing(docker.DockerClient(base_url=host, timeout=CALL_SECONDS))


def _unmount_below(directory: Path) -> None:
    """Unmount what a killed engine left mounted below `directory`, innermost mounts first.

    Raises CalledProcessError if something stays mounted, because deleting `directory` would delete the mounted files.
    """
    mount_points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount_point in reversed(mount_points):
        if mount_point.startswith(f"{directory}/"):
            subprocess.run(["umount", mount_point], check=True)
