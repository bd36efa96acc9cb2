"""deploy/compose.yaml, started in an engine without networks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from loader.version import VERSION
from tests.deploy.nginx_checks import services_variant
from tests.support.engines import Engine
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import clean_env, free_port, poll

COMPOSE_FILE = REPOSITORY / "deploy" / "compose.yaml"
SERVICES_FILE = COMPOSE_FILE.with_name("compose.services.yaml")
IMAGE = f"azaion-loader:{VERSION}"
USER = 10001
PROJECT = "composed"
HEALTHY_SECONDS = 30.0
CALL_SECONDS = 120


def compose_command() -> list[str]:
    """Return the command of compose: the plugin of docker, or the older program; `missing` without both."""
    programs = [command for command in (["docker", "compose"], ["docker-compose"]) if shutil.which(command[0])]
    for command in programs:
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    raise missing("docker compose", "neither the plugin nor docker-compose is installed")


def compose(
    home: Path, files: Sequence[Path], *arguments: str, project: str = PROJECT, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run compose on `files` with exactly `env`, as a project of the tests."""
    named = [argument for file in files for argument in ("--file", str(file))]
    return subprocess.run(
        [*compose_command(), "--project-name", project, *named, *arguments],
        env=clean_env(home, **env),
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )


class Composed:
    """The two services, started and healthy. `url` is the loader's socket, as this machine sees it."""

    def __init__(self, engine: Engine, home: Path, files: list[Path], env: dict[str, str]) -> None:
        self._engine = engine
        self._home = home
        self._files = files
        self._env = {**env, "DOCKER_HOST": engine.host}
        self.run("up", "--detach")
        poll(lambda: self.health() == "healthy", HEALTHY_SECONDS, "the loader is healthy")
        self.url = f"unix:/proc/{self.loader.attrs['State']['Pid']}/root/run/azaion-loader/loader.sock"

    @property
    def loader(self) -> Container:
        """The loader's container, as it is now."""
        return self._container("loader")

    @property
    def detector(self) -> Container:
        """The container of the service, as it is now."""
        return self._container("detector")

    @property
    def nginx(self) -> Container:
        """nginx's container, as it is now."""
        return self._container("nginx")

    def health(self) -> str:
        """Return the health of the loader's container: `starting`, `healthy` or `unhealthy`."""
        return str(self.loader.attrs["State"]["Health"]["Status"])

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the lines of the loader's log."""
        return [json.loads(line) for line in self.loader.logs().decode().splitlines()]

    def stop(self) -> int:
        """Stop the loader by `docker compose stop`, and return its exit code."""
        self.run("stop", "loader")
        return int(self.loader.attrs["State"]["ExitCode"])

    def run(self, *arguments: str) -> None:
        """Run compose, which must succeed."""
        done = compose(self._home, self._files, *arguments, **self._env)
        assert done.returncode == 0, done.stderr

    def _container(self, service: str) -> Container:
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        (found,) = self._engine.client.containers.list(all=True, filters={"label": labels})
        return found


def _with_services(directory: Path) -> list[Path]:
    """Copy the files to `directory`, turn on the block for services, and publish another port, which may be taken."""
    shutil.copytree(COMPOSE_FILE.parent, directory)
    (directory / "nginx.conf").write_text(services_variant())
    files = [directory / path.name for path in (COMPOSE_FILE, SERVICES_FILE)]
    files[0].write_text(COMPOSE_FILE.read_text().replace("127.0.0.1:8080:80", f"127.0.0.1:{free_port()}:80"))
    return files


@contextmanager
def composed(
    engine: Engine, home: Path, device: Path, resource_api_url: str, detector: str | None = None
) -> Iterator[Composed]:
    """Start the services on the disk `device`, and remove them with their volumes. `home` is a new directory.

    With an image for `detector`, those of compose.services.yaml are started as well, and nginx has its networks. They
    differ from a device in their disk, their engine, the interval of the health check, and their networks: the
    loader has the network of the host, where the API of the tests listens on loopback, and nginx has none.
    """
    home.mkdir()
    differences: dict[str, dict[str, Any]] = {
        "loader": {
            "network_mode": "host",
            "volumes": [f"{device}:/opt/azaion", f"{engine.socket}:/var/run/docker.sock"],
            "healthcheck": {"interval": "1s"},
        },
        # Debian's nginx uses /var/lib/nginx where the official image uses /var/cache/nginx.
        "nginx": {"network_mode": "none", "tmpfs": ["/var/lib/nginx:mode=0700,uid=101,size=1m"]},
    }
    files = [COMPOSE_FILE]
    if detector is not None:
        files = _with_services(home / "deploy")
        del differences["nginx"]["network_mode"]
        # The image of the tests has no shell.
        differences["nginx"]["command"] = ["nginx", "-g", "daemon off;"]
        differences["detector"] = {"command": ["python", "-c", "import time; time.sleep(1e6)"]}
        differences["detector"]["stop_grace_period"] = "0s"
    override = home / "override.json"
    override.write_text(json.dumps({"services": differences}))
    group = str(engine.socket.stat().st_gid)
    env = {"RESOURCE_API_URL": resource_api_url, "API_VERSION": "1.4", "DOCKER_GID": group}
    env |= {"DETECTOR_IMAGE": detector} if detector is not None else {}
    try:
        running = Composed(engine, home, [*files, override], env)
        yield running
    finally:
        compose(home, [*files, override], "down", "--volumes", **env, DOCKER_HOST=engine.host)
