"""The engines import, save and load images, also through the proxy, which records exactly what a client sends."""

from __future__ import annotations

import signal
from pathlib import Path

import docker
import pytest

from tests.support.archives import PLATFORM
from tests.support.engines import Engine, engine_of
from tests.support.images import MIB, has_image, image_id, import_image, remove_image, rootfs_tar, save_images
from tests.support.processes import STOP_SECONDS, poll
from tests.support.procfs import descendants, is_running
from tests.support.recording_proxy import RecordingProxy

REFERENCE = "azaion/harness:1.2.3"
SECOND = "azaion/second:1.2.3"


NEWER = {
    "docker_classic_26": ("26.1", "overlay2"),
    "docker_containerd_26": ("26.1", "io.containerd.snapshotter.v1"),
    "podman_5": ("5.4", "overlay"),
}


@pytest.fixture(params=["docker_engine", "podman_engine", *NEWER])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return one engine after the other."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def test_every_engine_runs_the_platform_of_this_machine(engine: Engine) -> None:
    version = engine.client.version()
    assert f"{version['Os']}/{version['Arch']}" == PLATFORM


@pytest.mark.parametrize("fixture", NEWER)
def test_a_newer_engine_has_the_version_and_the_store_of_its_name(request: pytest.FixtureRequest, fixture: str) -> None:
    newer: Engine = request.getfixturevalue(fixture)
    version, store = NEWER[fixture]
    info = newer.client.info()
    assert newer.client.version()["Version"].startswith(version)
    assert store in (info["Driver"], *(value for _, value in info["DriverStatus"]))
    assert Path(info["DockerRootDir"]).is_relative_to(newer.socket.parent)
    assert Path(info["DockerRootDir"]).is_dir()


def mounts_of(newer: Engine) -> list[str]:
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if str(newer.socket.parent) in line or "debian-13" in line]


def test_a_killed_engine_of_debian_13_leaves_no_mount_no_process_and_no_file() -> None:
    with engine_of("docker_containerd_26") as newer:
        assert newer.process
        started = descendants(newer.process.pid)
        assert started
        assert mounts_of(newer) == []
        newer.process.send_signal(signal.SIGKILL)
        newer.process.wait(STOP_SECONDS)
    poll(lambda: not any(map(is_running, started)), STOP_SECONDS, "the engine's containerd ends")
    assert mounts_of(newer) == []
    assert not newer.socket.parent.exists()


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
