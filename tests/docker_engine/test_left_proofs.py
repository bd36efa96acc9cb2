"""Containers of proofs that have not ended, in docker and podman."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.docker_engine.connection import Connection, NotPermitted
from loader.docker_engine.proof import prove_by_container, remove_proofs
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.images import import_image
from tests.support.socket_proxy import socket_proxy

pytest_plugins = ("tests.support.unlock_fixtures",)

NO_REMOVAL = "limit_except GET POST { deny all; }"


@pytest.fixture
def foreign(real: Engine) -> Iterator[str]:
    """A container of somebody else, with another value of the label."""
    import_image(real, APP)
    made = real.client.api.create_container(APP, ["/nothing"], labels={"azaion-loader": "other"})
    yield made["Id"]
    real.client.api.remove_container(made["Id"])


def containers(real: Engine) -> set[str]:
    return {container["Id"] for container in real.client.api.containers(all=True)}


def test_only_the_containers_of_proofs_are_removed(
    real: Engine, foreign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that lets a container be made but not be removed leaves them as a kill does."""
    with socket_proxy(tmp_path / "nginx", real.socket, everywhere=NO_REMOVAL) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        forbidding = Connection(60)
        for _ in range(2):
            with pytest.raises(NotPermitted):
                prove_by_container(forbidding, APP, APP)
        remove_proofs(forbidding)
    assert len(containers(real) - {foreign}) == 2
    monkeypatch.setenv("DOCKER_HOST", real.host)
    remove_proofs(Connection(60))
    assert containers(real) == {foreign}
