"""Container engines for the tests: a private dockerd and a private podman, each below one temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

import docker

from tests.support.http_probe import UNIX_PREFIX, http_status, socket_path
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env

READY_SECONDS = 60.0
CALL_SECONDS = 300
SYSTEM_DOCKER_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Engine:
    """A running engine that speaks Docker's API on a unix socket.

    `client` is shared by all tests (its calls may come from several threads). `process` is None for an engine that
    was there before the tests and stays after them: it may hold images of others.
    """

    name: str
    host: str
    client: docker.DockerClient
    process: ManagedProcess | None

    @property
    def socket(self) -> Path:
        """The path of its socket."""
        return Path(socket_path(self.host))


class EngineUnavailable(Exception):
    """A private engine cannot run on this machine; the text says why."""


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """A private dockerd; where that cannot run, the one of DOCKER_HOST or of the system; else `missing`."""
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine("docker", _dockerd_command))
        except EngineUnavailable as exc:
            engine = running.enter_context(_system_docker(str(exc)))
        yield engine


@contextmanager
def docker_engine_at(data_root: Path) -> Iterator[Engine]:
    """A private dockerd that keeps its images at `data_root`, or `missing`."""
    with ExitStack() as running:
        try:
            command = partial(_dockerd_command, data_root=data_root)
            engine = running.enter_context(_private_engine("docker", command))
        except EngineUnavailable as exc:
            missing("docker engine on a disk of its own", str(exc))
        yield engine


@contextmanager
def podman_engine() -> Iterator[Engine]:
    """A private podman service, or `missing`."""
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine("podman", _podman_command))
        except EngineUnavailable as exc:
            missing("podman engine", str(exc))
        yield engine


@contextmanager
def _private_engine(name: str, command: Callable[[Path, str], list[str]]) -> Iterator[Engine]:
    # Directly below TMPDIR and short: the engines put unix sockets deep inside, whose paths may have 107 characters.
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        host = f"unix://{directory}/{name}.sock"
        with _started(name, command(directory, host), directory, host) as process, _client(host) as client:
            yield Engine(name, host, client, process)
    finally:
        _unmount_below(directory)
        shutil.rmtree(directory)


@contextmanager
def _started(name: str, command: list[str], directory: Path, host: str) -> Iterator[ManagedProcess]:
    if shutil.which(command[0]) is None:
        raise EngineUnavailable(f"{command[0]} is not installed")
    if os.geteuid() != 0:
        raise EngineUnavailable(f"a private {command[0]} needs root")
    env = clean_env(directory, TMPDIR=str(directory))  # podman spools there, and leaves behind, what it is sent
    with ManagedProcess(name, command, directory, env=env) as process:
        try:
            process.wait_until(lambda: http_status(host, "/_ping") == HTTPStatus.OK, READY_SECONDS, f"{name} answers")
        except AssertionError as exc:
            raise EngineUnavailable(f"{name} does not start: {str(exc).splitlines()[-1]}") from exc
        yield process


@contextmanager
def _system_docker(why_not_private: str) -> Iterator[Engine]:
    host = os.environ.get("DOCKER_HOST") or SYSTEM_DOCKER_SOCKET
    if not host.startswith(UNIX_PREFIX) or http_status(host, "/_ping") != HTTPStatus.OK:
        missing("docker engine", f"{why_not_private}, and {host} does not answer on a unix socket")
    with _client(host) as client:
        yield Engine("docker", host, client, None)


def _dockerd_command(directory: Path, host: str, data_root: Path | None = None) -> list[str]:
    # No bridge and no firewall rules: the tests load images, they run no container, and the host's network stays as is.
    return [
        *("dockerd", "--host", host, "--bridge=none", "--iptables=false"),
        *(
            "--data-root",
            str(data_root or directory / "data"),
            "--exec-root",
            f"{directory}/exec",
            "--pidfile",
            f"{directory}/pid",
        ),
    ]


def _podman_command(directory: Path, host: str) -> list[str]:
    # The driver vfs mounts nothing and works on every file system, inside containers too.
    return [
        *("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"),
        *("--storage-driver", "vfs", "system", "service", "--time=0", host),
    ]


@contextmanager
def _client(host: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=host, timeout=CALL_SECONDS)
    try:
        yield client
    finally:
        client.close()


def _unmount_below(directory: Path) -> None:
    """Unmounts what an engine that was killed has left below `directory`, the innermost first.

    Raises if something stays mounted: the directory must not be deleted through a mount.
    """
    mount_points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount_point in reversed(mount_points):
        if mount_point.startswith(f"{directory}/"):
            subprocess.run(["umount", mount_point], check=True)
