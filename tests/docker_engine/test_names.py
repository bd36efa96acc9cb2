"""The names of images: `name`, `restore` and `remove_if_dangling` against docker and podman."""

from __future__ import annotations

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineRejected
from tests.docker_engine.connecting import ABSENT
from tests.support.archives import APP, DATABASE, PREFIX
from tests.support.engines import Engine
from tests.support.images import image_id, import_image, unnamed_images

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_a_reference_can_be_restored(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    before = engine.find(APP)
    engine.restore(APP, before)
    assert engine.find(APP) == before

    import_image(real, APP, seed=5)
    engine.restore(APP, before)
    assert engine.find(APP) == before
    assert unnamed_images(real) == []

    engine.restore(APP, None)
    assert engine.find(APP) is None
    engine.restore(APP, None)


def test_a_reference_without_a_tag_can_be_restored(engine: DockerEngine, real: Engine) -> None:
    import_image(real, f"{PREFIX}untagged:latest")
    before = engine.find(f"{PREFIX}untagged")
    import_image(real, f"{PREFIX}untagged:latest", seed=5)
    engine.restore(f"{PREFIX}untagged", before)
    assert engine.find(f"{PREFIX}untagged") == before


def test_the_image_that_loses_a_reference_stays_if_it_has_another(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    before = engine.find(APP)
    other = import_image(real, APP, seed=5)
    real.client.api.tag(APP, *DATABASE.split(":"))
    engine.restore(APP, before)
    assert image_id(real, DATABASE) == other


def test_only_an_image_without_a_name_is_removed_as_dangling(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    image = engine.find(APP)
    assert image is not None
    engine.remove_if_dangling(image)
    assert engine.find(APP) == image

    import_image(real, APP, seed=5)
    assert unnamed_images(real) != []
    engine.remove_if_dangling(image)
    assert unnamed_images(real) == []
    engine.remove_if_dangling(image)


def test_an_image_gets_a_further_name(engine: DockerEngine, real: Engine) -> None:
    made = import_image(real, APP)
    engine.name(APP, DATABASE)
    assert image_id(real, DATABASE) == made

    # A name that another image has moves.
    other = import_image(real, DATABASE, seed=5)
    engine.name(APP, DATABASE)
    assert image_id(real, DATABASE) == made
    real.client.images.remove(other, force=True)

    with pytest.raises(EngineRejected):
        engine.name(ABSENT, DATABASE)
