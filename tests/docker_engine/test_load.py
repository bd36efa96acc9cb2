"""Saves and loads of whole images against docker and podman, and sources that fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineRejected, Interrupted
from tests.docker_engine.connecting import ABSENT, connected, described
from tests.support.archives import APP, DATABASE
from tests.support.engines import Engine
from tests.support.images import has_image, holds, image_id, import_image, remove_image, save_images

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20


def test_several_saved_images_can_be_loaded(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP, random_mib=3)
    import_image(real, DATABASE, seed=1)
    images = [described(engine, APP), described(engine, DATABASE)]
    tar = list(engine.save([APP, DATABASE]))
    assert len(tar) > 1
    for reference in (APP, DATABASE):
        remove_image(real, reference)
    assert not holds(engine, images)

    signs: list[int] = []
    engine.load(iter(tar), signs.append)
    engine.prove(images)
    assert [image_id(real, image.reference) for image in images] == [image.config for image in images]
    # docker reports on the way, so that a long load does not look like a dead engine; podman speaks at the end only.
    assert len(signs) > (len(images) if real.name == "docker" else 0)
    assert max(signs) > (3 * MIB if real.name == "docker" else -1)


def test_an_absent_image_cannot_be_saved(engine: DockerEngine) -> None:
    with pytest.raises(EngineRejected):
        next(engine.save([ABSENT]))


@pytest.mark.parametrize("reason", [Interrupted("told to stop"), ZeroDivisionError("a bug")], ids=repr)
@pytest.mark.parametrize("part", [0.5, 1.0], ids=["half way", "after all bytes"])
def test_a_source_that_fails_leaves_nothing_in_the_engine(
    engine: DockerEngine, real: Engine, tmp_path: Path, reason: Exception, part: float
) -> None:
    import_image(real, APP, random_mib=2)
    tar = save_images(real, [APP], tmp_path / "saved.tar").read_bytes()
    remove_image(real, APP)

    def failing() -> Iterator[bytes]:
        yield tar[: int(len(tar) * part)]
        raise reason

    with pytest.raises(type(reason), match=str(reason)):
        engine.load(failing())
    assert engine.find(APP) is None
    engine.load(iter([tar]))
    assert engine.find(APP) is not None


def test_a_source_that_ends_early_is_refused(engine: DockerEngine, real: Engine, tmp_path: Path) -> None:
    import_image(real, APP, random_mib=2)
    tar = save_images(real, [APP], tmp_path / "saved.tar").read_bytes()
    remove_image(real, APP)
    with pytest.raises(EngineRejected, match=r"^The Docker engine at unix:[^ ]+ refused the images: [^\n]+\.$"):
        engine.load(iter([tar[: len(tar) // 2]]))
    assert engine.find(APP) is None


def test_an_image_replaced_by_a_load_loses_only_its_name(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(docker.host, monkeypatch)
    import_image(docker, APP)
    tar = list(engine.save([APP]))
    image = described(engine, APP)
    other = import_image(docker, APP, seed=5)
    engine.load(iter(tar))
    assert image_id(docker, APP) == image.config
    assert has_image(docker, other)
