"""deploy/compose-api.yaml, started in an engine of the tests, alone or with deploy/compose-api-store.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from loader.version import VERSION
from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.deploy.composed import HEALTHY_SECONDS, USER, compose
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.loader_server import REPOSITORY
from tests.support.processes import poll

COMPOSE_FILE = REPOSITORY / "deploy" / "compose-api.yaml"
STORE_FILE = COMPOSE_FILE.with_name("compose-api-store.yaml")
API_IMAGE = f"azaion-resource-api:{VERSION}"
PROJECT = "composed-api"
SERVERS = ("api-1", "api-2")
DEVICE, FRAGMENT = "device-7", bytes(range(32))


@dataclass(frozen=True)
class ComposedApi:
    """The services, started, the servers healthy. `state` is the directory that the servers read.

    Clients trust nginx by the certificate in the file `authority`. DEVICE is a publisher and logs in with `secret`.
    """

    engine: Engine
    home: Path
    files: Sequence[Path]
    env: dict[str, str]
    state: DataDirectory
    authority: Path
    secret: str

    def run(self, *arguments: str) -> None:
        """Run compose, which must succeed."""
        done = compose(self.home, self.files, *arguments, project=PROJECT, **self.env)
        assert done.returncode == 0, done.stderr

    def container(self, service: str) -> Container:
        """Return the container of a service, as it is now."""
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        (found,) = self.engine.client.containers.list(all=True, filters={"label": labels})
        return found

    def address(self, service: str, network: str) -> str:
        """Return the IP address of a service in a network, which this machine can reach."""
        networks: dict[str, dict[str, str]] = self.container(service).attrs["NetworkSettings"]["Networks"]
        return networks[network]["IPAddress"]

    def wait_until_healthy(self, service: str) -> None:
        """Wait for the health check of a server."""
        poll(
            lambda: self.container(service).attrs["State"]["Health"]["Status"] == "healthy",
            HEALTHY_SECONDS,
            f"{service} is healthy",
        )


@contextmanager
def composed_api(
    engine: Engine,
    place: Path,
    files: Sequence[Path],
    differences: Mapping[str, dict[str, Any]],
    authority: Authority,
    hosts: Sequence[str],
    **env: str,
) -> Iterator[ComposedApi]:
    """Start the services of `files`, and remove them with their volumes. `place` is a directory for all their files.

    They differ from production by the `differences` of their descriptions, and by the interval of the health checks.
    `authority` signs the certificate of nginx, which is for `hosts`.
    """
    state = DataDirectory.create(place / "state")
    Fragments(state).set(FRAGMENT)
    _, _, secret = Users(state).set_secret(DEVICE, Role.PUBLISHER)
    give_to_the_api(state.root)
    _certify(place / "tls", authority, hosts)
    own: dict[str, dict[str, Any]] = {name: {"healthcheck": {"interval": "1s"}} for name in SERVERS}
    override = place / "override.json"
    override.write_text(json.dumps({"services": {**own, **differences}}))
    home = place / "home"
    home.mkdir()
    all_env = {"STATE_DIR": str(state.root), "TLS_DIR": str(place / "tls"), "DOCKER_HOST": engine.host, **env}
    made = ComposedApi(engine, home, [*files, override], all_env, state, authority.path, secret)
    try:
        made.run("up", "--detach")
        for name in SERVERS:
            made.wait_until_healthy(name)
        yield made
    finally:
        compose(home, made.files, "down", "--volumes", project=PROJECT, **all_env)


def _certify(directory: Path, authority: Authority, hosts: Sequence[str]) -> None:
    """Make the directory with the certificate and the key of nginx, which its user may read."""
    directory.mkdir()
    signed = authority.sign("server", host=hosts[0], further_hosts=hosts[1:])
    signed.certificate.rename(directory / "fullchain.pem")
    signed.key.rename(directory / "key.pem")
    for path in (directory.parent, directory, *directory.iterdir()):
        path.chmod(0o755)


def give_to_the_api(directory: Path) -> None:
    """Give a directory, and all that is in it, to the user of the container."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, USER, USER)
