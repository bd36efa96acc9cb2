"""The names of images: `name`, `remove_name` and `drop_name` against docker and podman."""

from __future__ import annotations

import pytest

from loader.docker_engine import Absent, DockerEngine
from loader.errors import EngineRejected
from tests.docker_engine.connecting import ABSENT
from tests.support.archives import APP, DATABASE
from tests.support.engines import Engine
from tests.support.images import image_id, import_image, unnamed_images

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_a_name_goes_and_takes_an_image_with_it_that_has_no_other(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    engine.name(APP, DATABASE)
    engine.remove_name(APP)
    assert engine.find(APP) is None
    assert engine.find(DATABASE) is not None
    engine.remove_name(DATABASE)
    assert unnamed_images(real) == []
    with pytest.raises(Absent):
        engine.remove_name(DATABASE)


def test_the_last_name_of_an_image_that_a_container_uses_stays_or_is_dropped(
    engine: DockerEngine, real: Engine
) -> None:
    former = import_image(real, APP)
    container = real.client.api.create_container(APP, ["/nothing"])
    try:
        engine.name(APP, DATABASE)
        import_image(real, APP, seed=5)
        with pytest.raises(EngineRejected, match="use"):
            engine.remove_name(DATABASE)
        assert image_id(real, DATABASE) == former

        engine.drop_name(DATABASE, APP)
        assert engine.find(DATABASE) is None
        assert [image.removeprefix("sha256:") for image in unnamed_images(real)] == [former.removeprefix("sha256:")]
        assert [found["Id"] for found in real.client.api.containers(all=True)] == [container["Id"]]
    finally:
        real.client.api.remove_container(container["Id"])
        real.client.images.remove(former)
    engine.drop_name(DATABASE, APP)


def test_the_last_name_of_a_used_image_stays_if_there_is_no_other_image_to_move_it_to(
    engine: DockerEngine, real: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    former = import_image(real, APP)
    container = real.client.api.create_container(APP, ["/nothing"])
    try:
        engine.name(APP, DATABASE)
        engine.remove_name(APP)
        engine.drop_name(DATABASE, APP)
        assert image_id(real, DATABASE) == former
        (warning,) = caplog.messages
        assert warning.startswith(f"{DATABASE} stays until `azaion-loader images prune` can remove it: ")
        assert "use" in warning
    finally:
        real.client.api.remove_container(container["Id"])
    engine.drop_name(DATABASE, APP)
    assert engine.find(DATABASE) is None


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
