"""The functions of `loader.packing`, called directly in the test process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from loader import packing
from loader.crypto.archive import Manifest
from loader.docker_engine import DockerEngine
from loader.errors import (
    ArchiveCorrupt,
    ArchiveNotFound,
    DiskSpace,
    EngineUnavailable,
    ImageNotFound,
    KeyMismatch,
    StorageError,
)
from tests.support.archives import APP, DATABASE, FRAGMENT, PREFIX, Packed
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.images import import_image
from tests.support.small_disk import small_disk

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
PATIENCE_SECONDS = 60
SILENCE_SECONDS = 1


def ignore(_: int) -> None:
    """Ignore the number of bytes."""


def connected(host: str, monkeypatch: pytest.MonkeyPatch, timeout: float = PATIENCE_SECONDS) -> DockerEngine:
    monkeypatch.setenv("DOCKER_HOST", host)
    return DockerEngine(timeout)


@pytest.fixture
def engine(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    import_image(docker, APP, random_mib=2)
    import_image(docker, DATABASE)
    return connected(docker.host, monkeypatch)


def pack(engine: DockerEngine, output: Path, *references: str) -> Manifest:
    return packing.pack(engine, packing.find_images(engine, list(references)), FRAGMENT, output, ignore)


def test_a_packed_archive_verifies_and_names_its_images(engine: DockerEngine, tmp_path: Path) -> None:
    output = tmp_path / "images.enc"
    manifest = pack(engine, output, APP, DATABASE)
    assert packing.read_manifest(output) == manifest
    assert packing.verify(output, FRAGMENT, ignore) == manifest
    for image in manifest.images:
        found = engine.find(image.reference)
        assert found is not None
        assert found.is_image_of(image)
    assert [image.reference for image in manifest.images] == [APP, DATABASE]
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_each_byte_is_counted_twice_when_packing_and_once_when_verifying(engine: DockerEngine, tmp_path: Path) -> None:
    passed: list[int] = []
    output = tmp_path / "images.enc"
    manifest = packing.pack(engine, packing.find_images(engine, [APP]), FRAGMENT, output, passed.append)
    assert sum(passed) == 2 * manifest.tar_size
    passed.clear()
    packing.verify(output, FRAGMENT, passed.append)
    assert sum(passed) == manifest.tar_size


def test_no_two_archives_share_their_ciphertext(engine: DockerEngine, tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    pack(engine, first, APP)
    pack(engine, second, APP)
    assert first.read_bytes()[-64:] != second.read_bytes()[-64:]
    assert first.read_bytes()[MIB : MIB + 64] != second.read_bytes()[MIB : MIB + 64]


def test_a_name_without_a_tag_means_latest(engine: DockerEngine, docker: Engine) -> None:
    import_image(docker, f"{PREFIX}app:latest", seed=3)
    ((reference, image),) = packing.find_images(engine, [f"{PREFIX}app"])
    assert reference == f"{PREFIX}app:latest"
    assert image == engine.find(reference)


def test_image_not_found_names_the_missing_image(engine: DockerEngine) -> None:
    with pytest.raises(ImageNotFound, match="has no image registry:5000/absent:latest"):
        packing.find_images(engine, [APP, "registry:5000/absent"])


def test_a_repeated_image_is_packed_once(engine: DockerEngine, tmp_path: Path) -> None:
    output = tmp_path / "images.enc"
    pack(engine, output, APP, DATABASE, APP)
    assert [image.reference for image in packing.read_manifest(output).images] == [APP, DATABASE]


def test_an_engine_failure_while_packing_keeps_the_previous_archive(
    engine: DockerEngine, docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    output = directory / "images.enc"
    pack(engine, output, DATABASE)
    before = output.read_bytes()
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=MIB)
        with pytest.raises(EngineUnavailable):
            pack(connected(wire.host, monkeypatch, SILENCE_SECONDS), output, APP)
    assert output.read_bytes() == before
    assert os.listdir(directory) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_a_full_disk_leaves_no_file(engine: DockerEngine, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        with pytest.raises(DiskSpace, match=str(disk)):
            pack(engine, disk / "images.enc", APP)
        assert os.listdir(disk) == []  # noqa: PTH208  # hidden files count


def test_packing_needs_the_size_of_the_archive_only_once(engine: DockerEngine, tmp_path: Path) -> None:
    pack(engine, tmp_path / "images.enc", APP)
    size = (tmp_path / "images.enc").stat().st_size
    with small_disk(tmp_path / "disk", size + MIB // 2) as disk:
        pack(engine, disk / "images.enc", APP)
        assert (disk / "images.enc").stat().st_size == size > MIB


def test_storage_error_names_an_archive_in_a_missing_directory(engine: DockerEngine) -> None:
    with pytest.raises(StorageError, match=r"/nonexistent/images\.enc cannot be used"):
        pack(engine, Path("/nonexistent/images.enc"), APP)


def test_a_directory_at_the_path_of_the_archive_leaves_no_file(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "images.enc").mkdir()
    with pytest.raises(StorageError):
        pack(engine, tmp_path / "images.enc", APP)
    assert os.listdir(tmp_path) == ["images.enc"]  # noqa: PTH208  # hidden files count


def test_verify_distinguishes_wrong_key_damage_and_a_missing_archive(packed: Packed, tmp_path: Path) -> None:
    assert packing.verify(packed.path, FRAGMENT, ignore) == packed.manifest
    with pytest.raises(KeyMismatch):
        packing.verify(packed.path, b"x" * 32, ignore)
    with pytest.raises(ArchiveNotFound):
        packing.verify(tmp_path / "absent", FRAGMENT, ignore)
    for position in (0, 20, 2 * MIB, packed.path.stat().st_size - 1):
        data = bytearray(packed.path.read_bytes())
        data[position] ^= 1
        damaged = tmp_path / "damaged.enc"
        damaged.write_bytes(data)
        with pytest.raises(ArchiveCorrupt):
            packing.verify(damaged, FRAGMENT, ignore)


@pytest.mark.parametrize("size", [32, 33, 4096])
def test_a_fragment_of_a_right_size_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    fragment = os.urandom(size - 1) + b"\n"
    path.write_bytes(fragment)
    assert packing.read_fragment(path) == fragment


@pytest.mark.parametrize("size", [0, 31, 4097, 1_000_000])
def test_a_fragment_of_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(size))
    with pytest.raises(KeyMismatch, match=f"has {size} bytes, not 32 to 4096"):
        packing.read_fragment(path)


def test_fragments_are_random_and_never_overwritten(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    packing.new_fragment(first)
    packing.new_fragment(second)
    assert first.read_bytes() != second.read_bytes()
    assert len(first.read_bytes()) == 32
    before = first.read_bytes()
    with pytest.raises(StorageError, match="File exists"):
        packing.new_fragment(first)
    assert first.read_bytes() == before
