"""Updates that change a part: only what the engine lacks is sent, and what it has afterwards is whole."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader.install import install
from loader.oci import Layout
from loader.packing.thin import thin
from tests.support.archives import PREFIX, VERSION, head_of
from tests.support.engines import Engine, engine_of
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.images import remove_image, saved_images
from tests.support.inventory import Inventory
from tests.support.unlocking import LOAD, READY, UnlockDevice
from tests.unlock.engines.releases import BASE, MIB, NEW, NOISE
from tests.unlock.engines.scene import Scene

pytest_plugins = ("tests.support.unlock_fixtures",)

STABLE = f"docker.io/{PREFIX}service:stable"
RELEASES = 5
# What a thin archive has besides layers: the head, the seals and the descriptions of the image.
OVERHEAD = 10_000


def layer(name: str, number: int, size: int = MIB // 4) -> HandmadeLayer:
    """Return a layer with the file `name`, whose content depends on `number`."""
    return HandmadeLayer(b"%d." % number + NOISE[:size], name=name)


def service(number: int, tag: str = STABLE) -> HandmadeImage:
    """Return a release of an image: dependencies change with each second one, the application with each."""
    layers = (BASE, layer("runtime.bin", 0), layer("packages.bin", number // 2), layer("application.bin", number, 9000))
    return HandmadeImage(tag, layers, {"Cmd": ["/pause"], "Labels": {"number": str(number)}})


def tagged(number: int) -> str:
    """Return a name that only one release has."""
    return f"docker.io/{PREFIX}service:1.{number}"


def loaded_bytes(scene: Scene) -> int:
    """Return how many bytes of images the engine has got since the records of its requests were last forgotten."""
    return sum(request.length for request in scene.wire.sent("POST", LOAD))


def layout_size(archive: Path, image: HandmadeImage, *layers: HandmadeLayer) -> int:
    """Return the bytes of a layout of `image` with only these layers."""
    return Layout(head_of(archive), image.image, tuple(layer.described[0] for layer in layers)).size


def unlock(scene: Scene, image: HandmadeImage) -> Path:
    """Unlock an archive of `image` alone, and return it. Count the sent bytes from 0."""
    archive = seal(scene.scratch / "release.enc", [image], version=VERSION)
    scene.wire.forget()
    assert scene.unlock(archive) == READY
    return archive


def copied(scene: Scene, _: Path, archive: Path) -> int:
    """Copy the archive to the device. Return how many bytes were carried."""
    scene.device.put(archive)
    return archive.stat().st_size


def installed_thin(scene: Scene, former: Path, archive: Path) -> int:
    """Carry only what `former` lacks, and install it. Return how many bytes were carried."""
    delta = scene.scratch / "delta.enc"
    thin(archive, former, delta, silent)
    install(delta, scene.device.archive, VERSION, silent)
    return delta.stat().st_size


@contextmanager
def silent(_: str, __: int) -> Iterator[Callable[[int], None]]:
    """Show no progress."""
    yield lambda _: None


def files_of(engine: Engine, image: HandmadeImage) -> dict[str, bytes]:
    """Return what a new container of `image` sees under the names of the files of its layers."""
    api = engine.client.api
    container = api.create_container(image.reference, "/pause")["Id"]
    seen = {}
    for name in [layer.name for layer in image.layers]:
        pieces, _ = api.get_archive(container, f"/{name}")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            seen[name] = tar.extractfile(name).read()  # type: ignore[union-attr]
    api.remove_container(container)
    return seen


def assert_whole(engine: Engine, image: HandmadeImage, scratch: Path) -> None:
    """Require that the engine gives back every layer of the image, and that a container sees every file."""
    saved = saved_images(engine, [image.reference], scratch / "saved.tar")
    assert saved == {image.reference: (image.image.config, image.image.layers)}
    assert files_of(engine, image) == {layer.name: layer.block * layer.blocks for layer in image.layers}


@pytest.mark.parametrize(
    ("name", "carry"), [(lambda _: STABLE, copied), (tagged, installed_thin)], ids=["full", "thin"]
)
def test_five_releases_send_what_changed(
    scene: Scene, name: Callable[[int], str], carry: Callable[[Scene, Path, Path], int]
) -> None:
    """Full archives under the same tag, and thin ones under a new tag each."""
    former = unlock(scene, service(0, name(0)))
    for number in range(1, RELEASES):
        image = service(number, name(number))
        archive = seal(scene.scratch / f"{number}.enc", [image], version=VERSION)
        carried = carry(scene, former, archive)
        scene.wire.forget()
        assert scene.operator.unlock() == READY
        changed = [layer for layer in image.layers if layer not in service(number - 1).layers]
        # A layer in the middle that changed makes another one of each layer above it.
        assert [layer.name for layer in changed] == ["packages.bin", "application.bin"][number % 2 :]
        assert loaded_bytes(scene) == layout_size(archive, image, *changed)
        if carry is installed_thin:
            assert carried < sum(layer.described[1] for layer in changed) + OVERHEAD
        assert_whole(scene.engine, image, scene.scratch)
        former = archive


def test_settings_alone_send_no_layer(scene: Scene) -> None:
    unlock(scene, service(0))
    image = HandmadeImage(STABLE, service(0).layers, {"Cmd": ["/pause"], "Labels": {"number": "another"}})
    archive = unlock(scene, image)
    assert loaded_bytes(scene) == layout_size(archive, image)
    assert_whole(scene.engine, image, scene.scratch)


def test_an_image_that_was_removed_is_sent_whole(scene: Scene) -> None:
    unlock(scene, service(0))
    remove_image(scene.engine, STABLE)
    image = service(1)
    archive = unlock(scene, image)
    assert loaded_bytes(scene) == layout_size(archive, image, *image.layers)
    assert_whole(scene.engine, image, scene.scratch)


def test_an_image_that_somebody_else_has_loaded_is_no_base_of_a_containerd_store(scene: Scene) -> None:
    """There it may be with other blobs; elsewhere its layers count, whoever has loaded them.

    The lowest layer was proven with the release that the scene has unlocked.
    """
    other = HandmadeImage(STABLE, (*service(0).layers[:2], layer("other.bin", 7)))
    list(scene.engine.client.api.load_image(b"".join(docker_archive(other))))
    image = service(0)
    archive = unlock(scene, image)
    missing = image.layers[1:] if "containerd" in scene.engine.name else image.layers[2:]
    assert loaded_bytes(scene) == layout_size(archive, image, *missing)
    assert_whole(scene.engine, image, scene.scratch)


def test_a_base_that_goes_away_during_the_load_costs_a_second_one(scene: Scene) -> None:
    """As by `docker system prune -a`, which removes whatever no container uses, the pins as well."""
    unlock(scene, service(0))
    image = service(1)
    scene.device.put(seal(scene.scratch / "release.enc", [image], version=VERSION))
    scene.operator.let_engine_change("all images are removed meanwhile")
    scene.hold(after=5000)
    for name in Inventory.of(scene.engine).names:
        remove_image(scene.engine, name)
    scene.wire.release()
    status = scene.operator.rest()
    assert status == READY or status.code in {"ENGINE_REJECTED", "IMAGE_MISMATCH"}
    unlock(scene, image)
    assert_whole(scene.engine, image, scene.scratch)


def test_a_store_that_was_wiped_gets_everything(scene: Scene) -> None:
    unlock(scene, service(0))
    scene.engine.kill()
    for path in scene.engine.socket.with_name("data").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    scene.engine.restart()
    image = service(1)
    archive = unlock(scene, image)
    assert loaded_bytes(scene) == layout_size(archive, image, *image.layers)
    assert_whole(scene.engine, image, scene.scratch)


@pytest.mark.parametrize(
    ("first", "then"),
    [("docker_classic_26", "docker_containerd_26"), ("docker_containerd_26", "docker_classic_26")],
    ids=["to containerd", "to classic"],
)
def test_a_store_that_was_changed_gets_everything(
    first: str, then: str, tmp_path: Path, unlock_device: UnlockDevice
) -> None:
    images, data = [service(0), service(1)], tmp_path / "data"
    for kind, image in zip((first, then), images, strict=True):
        with engine_of(kind, data) as engine:
            operator = unlock_device.start(engine.host)
            archive = seal(tmp_path / "release.enc", [image], version=VERSION)
            unlock_device.put(archive)
            assert operator.get("/unlock/plan")["work"]["to_send"] == layout_size(archive, image, *image.layers)
            assert operator.unlock() == READY
            assert_whole(engine, image, tmp_path)
            operator.loader.stop()


def test_a_release_of_two_images_sends_what_changed_of_each(scene: Scene) -> None:
    """The scene has unlocked the former release of both, under the same names."""
    scene.wire.forget()
    assert scene.unlock(scene.scratch / "new.enc") == READY
    sizes = [layout_size(scene.scratch / "new.enc", image, image.layers[-1]) for image in NEW]
    assert loaded_bytes(scene) == sum(sizes)
    scene.assert_updated()
