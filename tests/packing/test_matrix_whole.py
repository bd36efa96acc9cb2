"""Every packer with every device, each loader in both modes, and the platforms of a layout on every engine."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from loader.crypto.archive_head import Head, Packed
from tests.packing.hand_sources import oci_files, tar_of
from tests.packing.matrix_devices import assert_exact, nothing_else_appears, unlock
from tests.packing.matrix_packers import ENGINES, IMAGES, PACKERS, PLATFORMS, attested_layout
from tests.packing.packs import pack_path
from tests.support.engines import Engine
from tests.support.unlocking import READY
from tests.unlock.watched_device import MODES, watched_device

CODECS = ("gzip", "none")
# A device meets each of these with some packer.
WAYS = list(product(MODES, CODECS))
Archives = dict[str, tuple[Path, Head]]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """The archives of an OCI layout that no tool wrote, by their codecs."""
    directory = tmp_path_factory.mktemp("by-hand")
    source = directory / "source.tar"
    source.write_bytes(tar_of(oci_files(*IMAGES)))
    paths = {codec: directory / f"{codec}.enc" for codec in CODECS}
    return {codec: (path, pack_path(source, path, version="1.4", codec=codec)) for codec, path in paths.items()}


@pytest.fixture(scope="module", params=PACKERS)
def archives(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, by_hand: Archives) -> Archives:
    """The archives of one packer by their codecs. They differ from those made by hand only in their root."""
    packer = PACKERS[request.param]
    engine: Engine = request.getfixturevalue(packer.engine)
    made = {}
    for codec in CODECS:
        path = tmp_path_factory.mktemp("packed") / "images.enc"
        made[codec] = path, packer.pack(engine, path, codec)
        assert packed_bytes(made[codec][1]).items() <= packed_bytes(by_hand[codec][1]).items()
    return made


def packed_bytes(head: Head) -> dict[str, tuple[int, str, Packed]]:
    """Return what the bytes of each blob are before they are sealed."""
    return {blob.digest: (blob.size, blob.codec, blob.packed) for blob in head.blobs}


@pytest.mark.parametrize("device", ENGINES)
def test_every_engine_gets_exactly_the_images_of_every_packer(
    request: pytest.FixtureRequest, archives: Archives, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = list(PACKERS).index(request.node.callspec.params["archives"]) + ENGINES.index(device)
    mode, codec = WAYS[number % len(WAYS)]
    path, head = archives[codec]
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with nothing_else_appears(engine, head.images):
        unlock(path, mode)
        assert_exact(engine, head.images, tmp_path)


@pytest.mark.parametrize(("mode", "codec"), WAYS)
@pytest.mark.parametrize("device", ENGINES)
def test_a_loader_unlocks_on_every_engine_in_every_way(
    request: pytest.FixtureRequest,
    by_hand: Archives,
    device: str,
    mode: str,
    codec: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, head = by_hand[codec]
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with nothing_else_appears(engine, head.images):
        with watched_device(tmp_path, engine, mode) as watched:
            assert watched.unlock(path.read_bytes()) == READY
            assert watched.plan(path.read_bytes())["done"] is True
        assert_exact(engine, head.images, tmp_path)


@pytest.mark.parametrize("device", ENGINES)
@pytest.mark.parametrize("architecture", PLATFORMS)
def test_one_platform_of_an_attested_layout_is_unlocked(
    request: pytest.FixtureRequest, output: Path, device: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine also keeps an image for another architecture than its own."""
    source = output.with_name("source.tar")
    source.write_bytes(attested_layout())
    head = pack_path(source, output, version="1.4", platform=f"linux/{architecture}")
    assert head.images == (PLATFORMS[architecture].image,)
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with nothing_else_appears(engine, head.images):
        unlock(output, "stream")
        assert_exact(engine, head.images, output.parent)
