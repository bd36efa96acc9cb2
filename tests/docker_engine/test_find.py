"""What an engine has: `find` and `prove` against docker and podman."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import EngineRejected, ImageMismatch
from tests.docker_engine.connecting import ABSENT, EXPECTED, connected, described
from tests.support.archives import APP, DATABASE, tags_of_tests
from tests.support.engines import Engine
from tests.support.images import holds, import_image

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
OTHER_ID = "sha256:" + "3" * 64


@pytest.mark.parametrize(
    ("image_id", "same"),
    [(EXPECTED.config, True), (EXPECTED.manifest, True), (OTHER_ID, False), (EXPECTED.layers[0], False), ("", False)],
    ids=["config", "manifest", "another", "layer", "none"],
)
def test_an_image_is_the_expected_one_only_by_its_id(image_id: str, same: bool) -> None:
    """Two reproducible builds may have the same layers and the same time, and differ in what they run."""
    assert EngineImage(image_id, EXPECTED.layers, 10).is_image_of(EXPECTED) is same


def test_find_describes_an_image(engine: DockerEngine, real: Engine) -> None:
    image = import_image(real, APP, random_mib=1)
    found = engine.find(APP)
    assert found is not None
    assert found.id == f"sha256:{image.removeprefix('sha256:')}"
    assert len(found.layers) == 1
    assert found.layers[0].startswith("sha256:")
    assert found.size > MIB
    assert found.platform.startswith("linux/")


def test_find_returns_none_for_an_absent_image(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    assert engine.find(ABSENT) is None
    assert engine.find(APP + "1") is None


def test_find_and_prove_require_exactly_the_expected_images(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    import_image(real, DATABASE, seed=1)
    app, database = described(engine, APP), described(engine, DATABASE)
    assert holds(engine, [app, database])
    engine.prove([app, database])

    other = replace(database, reference=APP)  # the tag is there, and it is another image's
    assert not holds(engine, [database, other])
    with pytest.raises(ImageMismatch, match=APP):
        engine.prove([database, other])

    absent = replace(app, reference=ABSENT)
    assert not holds(engine, [app, absent])
    with pytest.raises(ImageMismatch, match=ABSENT):
        engine.prove([app, absent])


def test_an_invalid_image_name_is_refused(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineRejected, match="invalid reference format"):
        connected(docker.host, monkeypatch).find("Not a name")


def test_a_full_name_stands_for_the_short_one(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(docker.host, monkeypatch)
    import_image(docker, APP)
    found = engine.find(f"docker.io/{APP}")
    assert found == engine.find(APP) is not None
    engine.name(f"docker.io/{APP}", f"docker.io/{DATABASE}")
    assert tags_of_tests(docker) == [APP, DATABASE]
