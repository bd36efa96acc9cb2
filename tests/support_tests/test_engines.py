"""Both engines import, save and load images, also through the proxy, which records exactly what a client sends."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from tests.support.engines import Engine
from tests.support.images import MIB, has_image, image_id, import_image, remove_image, rootfs_tar, save_images
from tests.support.recording_proxy import RecordingProxy

REFERENCE = "azaion/harness:1.2.3"
SECOND = "azaion/second:1.2.3"


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return one engine after the other."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found


def test_the_same_seed_makes_the_same_root_file_system() -> None:
    assert rootfs_tar(random_mib=1, seed=5) == rootfs_tar(random_mib=1, seed=5)
    assert rootfs_tar(random_mib=1, seed=5) != rootfs_tar(random_mib=1, seed=6)


def test_a_saved_image_can_be_loaded_through_the_proxy(engine: Engine, tmp_path: Path) -> None:
    made = import_image(engine, REFERENCE, random_mib=2, seed=1)
    import_image(engine, SECOND, seed=2)
    archive = save_images(engine, [REFERENCE, SECOND], tmp_path / "saved.tar")
    remove_image(engine, SECOND)
    remove_image(engine, REFERENCE)
    remove_image(engine, REFERENCE)
    assert not has_image(engine, REFERENCE)

    with RecordingProxy(tmp_path / "proxy.sock", engine.socket) as proxy:
        client = docker.DockerClient(base_url=proxy.host)
        assert not proxy.sent("POST", "/images/load$")
        with archive.open("rb") as tar:
            pieces = iter(lambda: tar.read(100_000), b"")
            messages = list(client.api.load_image(pieces))
        client.close()
    assert REFERENCE in str(messages)
    assert image_id(engine, REFERENCE) == made
    assert has_image(engine, SECOND)
    (load,) = proxy.sent("POST", "/images/load$")
    assert load.body_bytes == archive.stat().st_size > 2 * MIB
    remove_image(engine, REFERENCE)
    remove_image(engine, SECOND)


def test_an_aborted_load_registers_no_image_and_does_not_block_the_proxy(
    docker_engine: Engine, recorded_docker: RecordingProxy, tmp_path: Path
) -> None:
    import_image(docker_engine, REFERENCE, random_mib=2, seed=2)
    archive = save_images(docker_engine, [REFERENCE], tmp_path / "saved.tar").read_bytes()
    remove_image(docker_engine, REFERENCE)

    def broken() -> object:
        yield archive[:MIB]
        raise KeyError("the source broke")

    client = docker.DockerClient(base_url=recorded_docker.host)
    with pytest.raises(KeyError):
        list(client.api.load_image(broken()))
    client.close()
    assert len(recorded_docker.sent("POST", "/images/load$")) == 1
    assert not has_image(docker_engine, REFERENCE)
