"""An engine that is updated or replaced while the loader runs, so that it speaks another version of its API."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable
from tests.docker_engine.connecting import ABSENT, connected, let_pings_wait
from tests.support.engines import Engine
from tests.support.fake_engine import FakeCall, FakeEngine


@pytest.fixture
def downgraded(
    docker_classic_26: Engine, docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DockerEngine:
    """An engine that was Docker 26.1, and is Docker 20.10 now."""
    let_pings_wait(monkeypatch)
    link = tmp_path / "docker.sock"
    link.symlink_to(docker_classic_26.socket)
    engine = connected(f"unix://{link}", monkeypatch)
    engine.ping()
    engine.describe()
    for client in engine._connection._clients.values():
        # The end of an engine closes its connections.
        client.close()
    link.unlink()
    link.symlink_to(docker_engine.socket)
    return engine


def test_a_ping_finds_the_version_of_another_engine(downgraded: DockerEngine) -> None:
    downgraded.ping()
    assert downgraded.describe().root is not None


def test_a_look_at_an_image_finds_the_version_of_another_engine(downgraded: DockerEngine) -> None:
    assert downgraded.find(ABSENT) is None
    downgraded.remove_proofs()


def test_any_other_request_to_another_engine_fails_only_once(downgraded: DockerEngine) -> None:
    with pytest.raises(EngineUnavailable, match=r"client version 1\.45 is too new") as caught:
        downgraded.list_images()
    assert caught.value.hint.startswith("Try again")
    assert downgraded.list_images() is not None


def test_a_load_fails_only_once(fake: FakeEngine) -> None:
    """Only a fake refuses an old version; the words are those of Docker 29."""
    versions = []

    def need_1_44(call: FakeCall) -> None:
        version = call.path.split("/")[1]
        versions.append(version)
        if version == "v1.44":
            call.respond(200, {"stream": "Loaded image: any:1"})
        else:
            fake.version = {"ApiVersion": "1.44"}
            old = f"client version {version[1:]} is too old. Minimum supported API version is 1.44, please upgrade"
            call.respond(400, {"message": old})

    fake.load = need_1_44
    engine = DockerEngine(5)
    with pytest.raises(EngineUnavailable, match="is too old"):
        engine.load(io.BytesIO(b"tar"))
    engine.load(io.BytesIO(b"tar"))
    assert versions == ["v1.41", "v1.44"]
