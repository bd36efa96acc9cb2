"""The description of an engine, from real engines and from a fake that has each store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loader.docker_engine import DockerEngine, EngineDescription, Store
from loader.errors import EngineUnavailable
from tests.docker_engine.connecting import connected
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine
from tests.support.images import import_image
from tests.support.socket_proxy import socket_proxy

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_the_engine_describes_itself(engine: DockerEngine, real: Engine) -> None:
    made = engine.describe()
    assert made.root is not None
    assert made.root.is_dir()
    import_image(real, APP)
    found = engine.find(APP)
    assert found is not None
    assert made.runs(found.platform)
    assert made.store is (Store.PODMAN if real.name == "podman" else Store.CLASSIC)
    # podman of the tests has its temporary files in its own directory.
    assert made.copies == (real.socket.parent if real.name == "podman" else None)


@pytest.mark.parametrize("info", [(403, {"message": "forbidden"}), (200, {}), (200, {"DockerRootDir": ""})], ids=repr)
def test_an_engine_may_hide_what_it_is(fake: FakeEngine, info: tuple[int, dict[str, Any]]) -> None:
    fake.info = info
    assert DockerEngine(1).describe() == EngineDescription(None, Store.UNKNOWN, "")


def test_a_proxy_that_forbids_the_description_hides_the_store(
    docker_containerd_26: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connected(docker_containerd_26.host, monkeypatch).describe().store is Store.CONTAINERD
    rules = "location ~ /info$ { deny all; } location ~ /containers/create$ { deny all; }"
    with socket_proxy(tmp_path / "nginx", docker_containerd_26.socket, everywhere="", rules=rules) as host:
        engine = connected(host, monkeypatch)
        store = engine.describe().store
        (refused,) = engine.refusals(store)
    assert store is Store.UNKNOWN
    assert "refuses POST /containers/create: 403" in str(refused)


def test_a_platform_without_its_architecture_is_not_known(fake: FakeEngine) -> None:
    fake.version = {"Os": "linux"}
    assert DockerEngine(1).describe().runs("linux/amd64")


@pytest.mark.parametrize(
    ("status", "store"),
    [
        ([["driver-type", "io.containerd.snapshotter.v1"]], Store.CONTAINERD),
        ([["Backing Filesystem", "extfs"], ["driver-type", "io.containerd.snapshotter.v1"]], Store.CONTAINERD),
        ([["Backing Filesystem", "extfs"]], Store.CLASSIC),
        ([], Store.CLASSIC),
        (None, Store.CLASSIC),
    ],
)
def test_the_description_tells_the_store(fake: FakeEngine, status: object, store: Store) -> None:
    fake.info = (200, {"DockerRootDir": "/x", "DriverStatus": status})
    assert DockerEngine(1).describe() == EngineDescription(Path("/x"), store, "")


def test_a_podman_may_hide_where_it_copies_what_it_loads(fake: FakeEngine) -> None:
    fake.version = {"Components": [{"Name": "Podman Engine"}], "Os": "linux", "Arch": "arm64"}
    fake.info = (200, {"DockerRootDir": "/x"})
    assert DockerEngine(1).describe() == EngineDescription(Path("/x"), Store.PODMAN, "linux/arm64")


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_engine_that_is_down_does_not_describe_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        connected(f"unix://{tmp_path}/absent.sock", monkeypatch).describe()
