"""Images of real engines: what they save is packed, and their faults leave no archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.crypto.archive_head import MAX_BLOBS, Head, Release
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import EngineUnavailable, ImageNotFound, SourceCorrupt, ValidationFailed
from loader.packing.pack import Wishes, pack
from loader.packing.release import full_references, require_room
from loader.packing.sources import EngineSource, find_images
from loader.packing.verify import verify
from tests.packing.hand_sources import Files, docker_files, finish_layout, named, put_image, put_index, tar_of
from tests.packing.packs import pack_path, unwatched
from tests.support.archives import APP, DATABASE, PREFIX
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import CREATED, FRAGMENT, HandmadeImage, HandmadeLayer, docker_archive
from tests.support.images import image_id, import_image, save_images

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
PATIENCE_SECONDS = 60
SILENCE_SECONDS = 1
SHARED = HandmadeLayer(b"shared" * 1000, 300)
IMAGES = (HandmadeImage(APP, (SHARED, HandmadeLayer(b"own" * 1000, 20), SHARED)), HandmadeImage(DATABASE, (SHARED,)))

TAR = tar_of(docker_files(IMAGES[1]))


def connected(host: str, monkeypatch: pytest.MonkeyPatch, timeout: float = PATIENCE_SECONDS) -> DockerEngine:
    monkeypatch.setenv("DOCKER_HOST", host)
    return DockerEngine(timeout)


@pytest.fixture(params=["docker", "podman"])
def loaded(request: pytest.FixtureRequest) -> Engine:
    """An engine that holds `IMAGES`."""
    engine: Engine = request.getfixturevalue(request.param)
    list(engine.client.api.load_image(b"".join(docker_archive(*IMAGES))))
    return engine


def pack_from(engine: DockerEngine, output: Path, *names: str, platform: str | None = None) -> Head:
    source = EngineSource(engine, find_images(engine, full_references(names)), platform)
    head = pack(source, Wishes(version="1"), FRAGMENT, output, unwatched)
    assert verify(output, FRAGMENT, unwatched).head == head
    return head


def test_the_images_of_an_engine_are_packed(loaded: Engine, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = pack_from(connected(loaded.host, monkeypatch), output, APP, DATABASE, APP)
    assert head.images == tuple(image.image for image in IMAGES)
    assert len(head.blobs) == 2 + 2 + 2
    assert image_id(loaded, APP) in head.images[0].ids
    assert os.listdir(output.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_every_name_of_an_image_is_kept_and_its_layers_once(
    loaded: Engine, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{PREFIX}many:{number}" for number in range(100)]
    for name in names:
        loaded.client.api.tag(APP, *name.split(":"))
    head = pack_from(connected(loaded.host, monkeypatch), output, *names)
    assert [image.reference for image in head.images] == [f"docker.io/{name}" for name in names]
    assert len(head.distinct_images) == 1
    assert len(head.blobs) == 4


def test_a_saved_tar_is_packed_without_the_engine(loaded: Engine, tmp_path: Path, output: Path) -> None:
    from_engine = save_images(loaded, [APP, DATABASE], tmp_path / "saved.tar")
    head = pack_path(from_engine, output, version="1")
    assert {image.config for image in head.images} == {image.image.config for image in IMAGES}


def test_a_name_without_a_tag_means_latest(docker: Engine, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_image(docker, f"{PREFIX}app:latest", seed=3)
    (image,) = pack_from(connected(docker.host, monkeypatch), output, f"{PREFIX}app").images
    assert image.reference == f"docker.io/{PREFIX}app:latest"


def test_a_missing_image_is_named(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageNotFound, match="has no image registry:5000/absent:latest"):
        find_images(connected(docker.host, monkeypatch), full_references(["registry:5000/absent"]))


def test_a_tag_that_moves_meanwhile_is_noticed(loaded: Engine, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(loaded.host, monkeypatch)
    source = EngineSource(engine, find_images(engine, full_references([APP])), None)
    loaded.client.api.tag(DATABASE, *APP.split(":"))
    with pytest.raises(SourceCorrupt, match="the tag moved meanwhile"):
        pack(source, Wishes(), FRAGMENT, output, unwatched)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_another_platform_than_the_one_that_is_wanted_is_refused(
    loaded: Engine, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connected(loaded.host, monkeypatch)
    assert pack_from(engine, output, APP, platform="linux/amd64").images == (IMAGES[0].image,)
    output.unlink()
    with pytest.raises(ImageNotFound, match="for linux/arm64; it has linux/amd64"):
        pack_from(engine, output, APP, platform="linux/arm64")
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_a_silent_engine_keeps_the_previous_archive(
    docker: Engine, monkeypatch: pytest.MonkeyPatch, output: Path, tmp_path: Path
) -> None:
    import_image(docker, APP, random_mib=2)
    import_image(docker, DATABASE)
    pack_from(connected(docker.host, monkeypatch), output, DATABASE)
    before = output.read_bytes()
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=MIB)
        with pytest.raises(EngineUnavailable):
            pack_from(connected(wire.host, monkeypatch, SILENCE_SECONDS), output, APP)
    assert output.read_bytes() == before
    assert os.listdir(output.parent) == ["images.enc"]  # noqa: PTH208  # hidden files count


class LyingEngine(DockerEngine):
    """An engine that saves any bytes with status 200: no real one can be made to."""

    def __init__(self, image: EngineImage, tar: bytes) -> None:
        super().__init__(PATIENCE_SECONDS)
        self._image = image
        self._tar = tar

    def find(self, _reference: str) -> EngineImage:
        return self._image

    def save(self, _references: list[str], _platform: str | None = None) -> Iterator[bytes]:
        yield self._tar


def lying(tar: bytes, id_: str = IMAGES[1].image.config) -> LyingEngine:
    return LyingEngine(EngineImage(id_, IMAGES[1].image.layers, 1, "linux/amd64"), tar)


@pytest.mark.parametrize(
    ("tar", "told"),
    [
        (b"", "cut short"),
        (TAR[: len(TAR) // 2], "cut short"),
        (tar_of(docker_files(IMAGES[0])), "the tag moved meanwhile"),
        (tar_of({"a": b""}), "neither manifest.json nor index.json"),
    ],
)
def test_what_a_lying_engine_saves_is_refused(tar: bytes, told: str, output: Path) -> None:
    with pytest.raises(SourceCorrupt, match=told):
        pack_from(lying(tar), output, DATABASE)
    assert os.listdir(output.parent) == []  # noqa: PTH208  # hidden files count


def test_an_honest_double_of_the_engine_is_packed(output: Path) -> None:
    assert pack_from(lying(TAR), output, DATABASE).images == (IMAGES[1].image,)


def test_the_engine_may_know_an_image_by_its_manifest_or_its_index(output: Path) -> None:
    """The containerd store does."""
    files: Files = {}
    manifest = put_image(files, IMAGES[1])
    index = put_index(files, [manifest], **named(DATABASE))
    finish_layout(files, index)
    for descriptor in (manifest, index):
        assert pack_from(lying(tar_of(files), descriptor["digest"]), output, DATABASE).images == (IMAGES[1].image,)


RELEASE = Release("1", 1, CREATED)


def described(number: int, layers: int) -> EngineImage:
    names = tuple(f"sha256:{number:032x}{layer:032x}" for layer in range(layers))
    return EngineImage(f"sha256:{number:064x}", names, 1, "linux/amd64")


@pytest.mark.parametrize(("images", "layers"), [(1, 129), (34, 120), (30, 128)])
def test_what_an_archive_cannot_hold_is_told_before_the_save(images: int, layers: int) -> None:
    with pytest.raises(ValidationFailed):
        require_room(RELEASE, {f"docker.io/a/b:{number}": described(number, layers) for number in range(images)})


def test_what_an_archive_can_hold_is_no_error() -> None:
    require_room(RELEASE, {f"docker.io/a/b:{number}": described(number, 128) for number in range(20)})
    assert MAX_BLOBS > 20 * 130
