"""Container engines for the tests: private dockerds and podmans, each below one temporary directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

import docker

from tests.support.debian_13 import Debian13Unavailable, in_debian_13
from tests.support.http_probe import UNIX_PREFIX, http_status, socket_path
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env

READY_SECONDS = 60.0
CALL_SECONDS = 300
# Returns the command of an engine with its files in a directory, which listens at a host.
Command = Callable[[Path, str], list[str]]
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


# The engines that the tests started and that have not been stopped, by their hosts.
RUNNING: dict[str, Engine] = {}


class EngineUnavailable(Exception):
    """A private engine cannot run on this machine; the text says why."""


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """Yield a private dockerd; if it cannot run, the engine of DOCKER_HOST or of the system.

    Calls `missing` if there is no engine at all.
    """
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine("docker", _dockerd_command))
        except EngineUnavailable as exc:
            engine = running.enter_context(_system_docker(str(exc)))
        yield engine


def docker_engine_at(data_root: Path) -> AbstractContextManager[Engine]:
    """Yield a private dockerd that keeps its images at `data_root`. Calls `missing` if it cannot run."""
    return _required("docker engine on a disk of its own", "docker", partial(_dockerd_command, data_root=data_root))


def podman_engine() -> AbstractContextManager[Engine]:
    """Yield a private podman service. Calls `missing` if it cannot run."""
    return _required("podman engine", "podman", _podman_command)


def docker_classic_26() -> AbstractContextManager[Engine]:
    """Yield a private dockerd 26.1 with the classic store. Calls `missing` if it cannot run."""
    return _required("Docker 26.1 with the classic store", "docker-classic-26", _newer(_dockerd_command))


def docker_containerd_26() -> AbstractContextManager[Engine]:
    """Yield a private dockerd 26.1 with the containerd store. Calls `missing` if it cannot run."""
    return _required("Docker 26.1 with the containerd store", "docker-containerd-26", _newer(_containerd_command))


def podman_5() -> AbstractContextManager[Engine]:
    """Yield a private podman 5.4 service. Calls `missing` if it cannot run."""
    return _required("podman 5.4", "podman-5", _newer(partial(_podman_command, driver=())))


@contextmanager
def _required(what: str, name: str, command: Command) -> Iterator[Engine]:
    with ExitStack() as running:
        try:
            engine = running.enter_context(_private_engine(name, command))
        except EngineUnavailable as exc:
            missing(what, str(exc))
        yield engine


@contextmanager
def _private_engine(name: str, command: Command) -> Iterator[Engine]:
    # Use a short path directly below TMPDIR, because the engines create unix sockets deep inside it, and the path of
    # a unix socket may have at most 107 characters.
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    host = f"unix://{directory}/{name}.sock"
    try:
        with _started(name, command(directory, host), directory, host) as process, _client(host) as client:
            RUNNING[host] = Engine(name, host, client, process)
            yield RUNNING[host]
    finally:
        RUNNING.pop(host, None)
        _unmount_below(directory)
        shutil.rmtree(directory)


@contextmanager
def _started(name: str, command: list[str], directory: Path, host: str) -> Iterator[ManagedProcess]:
    if shutil.which(command[0]) is None:
        raise EngineUnavailable(f"{command[0]} is not installed")
    if os.geteuid() != 0:
        raise EngineUnavailable(f"a private {command[0]} needs root")
    env = clean_env(directory, TMPDIR=str(directory))  # podman writes uploads there and does not remove them
    with ManagedProcess(name, command, directory, env=env) as process:
        try:
            process.wait_until(lambda: http_status(host, "/_ping") == HTTPStatus.OK, READY_SECONDS, f"{name} responds")
        except AssertionError as exc:
            raise EngineUnavailable(f"{name} does not start: {str(exc).splitlines()[-1]}") from exc
        yield process


@contextmanager
def _system_docker(why_not_private: str) -> Iterator[Engine]:
    host = os.environ.get("DOCKER_HOST") or SYSTEM_DOCKER_SOCKET
    if not host.startswith(UNIX_PREFIX) or http_status(host, "/_ping") != HTTPStatus.OK:
        missing("docker engine", f"{why_not_private}, and {host} does not respond on a unix socket")
    with _client(host) as client:
        yield Engine("docker", host, client, None)


def _dockerd_command(directory: Path, host: str, data_root: Path | None = None) -> list[str]:
    # Do without a bridge and firewall rules, because the tests run no container and must not change the host's network.
    return [
        *("dockerd", "--host", host, "--bridge=none", "--iptables=false", "--ip6tables=false"),
        *(
            "--exec-root",
            f"{directory}/exec",
            "--data-root",
            str(data_root or directory / "data"),
            "--pidfile",
            f"{directory}/pid",
        ),
    ]


def _containerd_command(directory: Path, host: str) -> list[str]:
    config = directory / "daemon.json"
    config.write_text(json.dumps({"features": {"containerd-snapshotter": True}}))
    return [*_dockerd_command(directory, host), "--config-file", str(config)]


def _podman_command(directory: Path, host: str, driver: tuple[str, ...] = ("--storage-driver", "vfs")) -> list[str]:
    # Use the driver vfs, because it mounts nothing and works on every file system, also inside a container. Without a
    # driver, podman takes the best one that works, whose mounts must not be those of the host.
    return [
        *("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"),
        *(*driver, "system", "service", "--time=0", host),
    ]


def _newer(command: Command) -> Command:
    """Return `command` with the engine of Debian 13."""

    def newer(directory: Path, host: str) -> list[str]:
        try:
            return in_debian_13(command(directory, host))
        except Debian13Unavailable as exc:
            raise EngineUnavailable(str(exc)) from exc

    return newer


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
