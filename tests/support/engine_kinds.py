"""The kinds of engines that the tests can start, and the command of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.support.debian_13 import in_debian_13
from tests.support.debian_root import DebianUnavailable

# Returns the command of an engine that has its files in a directory, listens at a host and keeps its images at a path.
Command = Callable[[Path, str, Path], list[str]]


class EngineUnavailable(Exception):
    """A private engine cannot run on this machine; the text says why."""


@dataclass(frozen=True)
class Kind:
    """An engine of one version with one store. `name` is short, because the path of a socket contains it."""

    name: str
    title: str
    command: Command


def _dockerd_command(directory: Path, host: str, data: Path) -> list[str]:
    # Do without a bridge and firewall rules, because no container of the tests needs a network and the host's network
    # must not change.
    return [
        *("dockerd", "--host", host, "--bridge=none", "--iptables=false", "--ip6tables=false"),
        *("--exec-root", f"{directory}/exec", "--data-root", str(data), "--pidfile", f"{directory}/pid"),
    ]


def _containerd_command(directory: Path, host: str, data: Path) -> list[str]:
    config = directory / "daemon.json"
    config.write_text(json.dumps({"features": {"containerd-snapshotter": True}}))
    return [*_dockerd_command(directory, host, data), "--config-file", str(config)]


def _podman_command(
    directory: Path, host: str, data: Path, driver: tuple[str, ...] = ("--storage-driver", "vfs")
) -> list[str]:
    # Use the driver vfs, because it mounts nothing and works on every file system, also inside a container. Without a
    # driver, podman takes the best one that works, whose mounts must not be those of the host.
    return [
        *("podman", "--root", str(data), "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"),
        *(*driver, "system", "service", "--time=0", host),
    ]


def _newer(command: Command) -> Command:
    """Return `command` with the engine of Debian 13."""

    def newer(directory: Path, host: str, data: Path) -> list[str]:
        try:
            return in_debian_13(command(directory, host, data))
        except DebianUnavailable as exc:
            raise EngineUnavailable(str(exc)) from exc

    return newer


# By the names of the fixtures that yield them.
KINDS = {
    "docker_engine": Kind("docker", "Docker engine", _dockerd_command),
    "podman_engine": Kind("podman", "podman engine", _podman_command),
    "docker_classic_26": Kind("docker-classic-26", "Docker 26.1 with the classic store", _newer(_dockerd_command)),
    "docker_containerd_26": Kind(
        "docker-containerd-26", "Docker 26.1 with the containerd store", _newer(_containerd_command)
    ),
    "podman_5": Kind("podman-5", "podman 5.4", _newer(partial(_podman_command, driver=()))),
}
