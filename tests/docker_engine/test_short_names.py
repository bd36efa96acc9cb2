"""Short and full names of Docker Hub on each engine: they are one, except that podman prefers an image of localhost."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import ArchiveNotFound
from loader.packing.release import full_references
from loader.packing.sources import ambiguities, find_images
from loader.settings import Settings
from loader.unlock.images import require_images_without_archive
from loader.unlock.obstacles import obstacles
from tests.docker_engine.connecting import connected, described
from tests.support.archives import remove_all_images
from tests.support.engines import Engine
from tests.support.images import image_id, import_image

SHORT = "azaion-test/short:1"
FULL = f"docker.io/{SHORT}"
LOCAL = f"localhost/{SHORT}"
SPELLINGS = [SHORT, FULL, f"index.docker.io/{SHORT}"]
ONE_WORD = "azaion-test-word"
ONE_WORD_SPELLINGS = [
    f"{prefix}{ONE_WORD}:1"
    for prefix in ("", "library/", "docker.io/", "docker.io/library/", "index.docker.io/library/", "index.docker.io/")
]
PODMANS = ["podman_engine", "podman_5"]


@pytest.fixture(params=["docker_engine", "docker_classic_26", "docker_containerd_26", *PODMANS])
def real(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn."""
    yield from _clean(request)


@pytest.fixture(params=PODMANS)
def real_podman(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each podman in turn."""
    yield from _clean(request)


def _clean(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine: Engine = request.getfixturevalue(request.param)
    yield engine
    remove_all_images(engine)


@pytest.fixture
def podman_engine_with_both(real_podman: Engine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """A podman that has one image under the full name of Docker Hub, and another below localhost."""
    import_image(real_podman, LOCAL, seed=1)
    import_image(real_podman, FULL, seed=2)
    engine = connected(real_podman.host, monkeypatch)
    assert engine.find(LOCAL) != engine.find(FULL)
    return engine


def expecting(name: str, directory: Path) -> Settings:
    settings = Settings.from_env({"EXPECTED_IMAGES": name, "IMAGES_PATH": "/absent"})
    return replace(settings, model_cache_dir=directory)


def test_all_spellings_of_a_name_are_one(real: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(real.host, monkeypatch)
    with pytest.raises(ArchiveNotFound):
        require_images_without_archive(expecting(SHORT, tmp_path), engine)
    import_image(real, SHORT)
    found = engine.find(FULL)
    for spelling in SPELLINGS:
        assert engine.find(spelling) == found is not None
        require_images_without_archive(expecting(spelling, tmp_path), engine)
    assert list(obstacles(engine, engine.describe(), [described(engine, FULL)], done=True)) == []


def test_a_name_of_one_word_is_the_one_of_the_library(
    real: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connected(real.host, monkeypatch)
    import_image(real, SHORT)
    engine.name(FULL, f"docker.io/library/{ONE_WORD}:1")
    try:
        for spelling in ONE_WORD_SPELLINGS:
            assert engine.find(spelling) == engine.find(FULL)
            require_images_without_archive(expecting(spelling, tmp_path), engine)
    finally:
        real.client.api.remove_image(f"docker.io/library/{ONE_WORD}:1")


def test_an_expected_image_is_the_one_that_a_container_would_get(
    real_podman: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman has named an image below localhost, as it does with those that it builds."""
    import_image(real_podman, LOCAL)
    engine = connected(real_podman.host, monkeypatch)
    require_images_without_archive(expecting(SHORT, tmp_path), engine)
    with pytest.raises(ArchiveNotFound):
        require_images_without_archive(expecting(FULL, tmp_path), engine)
    container = real_podman.client.api.create_container(SHORT, command="/absent")["Id"]
    try:
        made_of = real_podman.client.api.inspect_container(container)["Image"]
    finally:
        real_podman.client.api.remove_container(container)
    assert made_of == described(engine, SHORT).config == described(engine, LOCAL).config


def test_an_image_that_podman_prefers_is_told_by_the_plan(podman_engine_with_both: DockerEngine) -> None:
    engine = podman_engine_with_both
    for done in (True, False):
        assert list(obstacles(engine, engine.describe(), [described(engine, FULL)], done=done)) == [
            f"The engine also has another image {LOCAL}, and podman takes {SHORT} for that one: "
            f"remove it, or name {FULL} in full."
        ]
    same = replace(described(engine, LOCAL), reference=FULL)
    assert list(obstacles(engine, engine.describe(), [same], done=True)) == []


def test_the_image_that_is_packed_is_told_if_the_engine_has_two(
    podman_engine_with_both: DockerEngine, real_podman: Engine
) -> None:
    engine = podman_engine_with_both
    found = find_images(engine, full_references([SHORT]))
    assert found == {FULL: (SHORT, engine.find(LOCAL))}
    assert list(ambiguities(engine, found)) == [
        f"{SHORT} is packed as {FULL}, but the engine has another image under that full name"
    ]
    assert _saved_config(engine, SHORT) == image_id(real_podman, LOCAL).removeprefix("sha256:")
    for written in (FULL, LOCAL):
        assert list(ambiguities(engine, find_images(engine, full_references([written])))) == []


def _saved_config(engine: DockerEngine, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.save([name])))) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        return str(json.load(member)[0]["Config"]).removesuffix(".json")
