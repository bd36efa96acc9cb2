"""Layouts of an archive, which docker and podman load as exactly the images of the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.binary_split import Contents, open_archive
from loader.crypto.archive_head import GZIP
from loader.docker_engine import DockerEngine
from loader.errors import ArchiveCorrupt, EngineRejected
from loader.oci import Layout
from loader.unlock.layers import layouts_of
from tests.docker_engine.connecting import authenticated
from tests.support.archives import APP, DATABASE, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import holds, unnamed_images

pytest_plugins = ("tests.support.unlock_fixtures",)

HANDMADE = (
    HandmadeImage(APP, (HandmadeLayer(b"base" * 256, 64), HandmadeLayer(b"top" * 256, 64)), {"Env": ["MODE=1"]}),
    HandmadeImage(DATABASE, (HandmadeLayer(b"base" * 256, 64),)),
)


def load_all(engine: DockerEngine, contents: Contents) -> None:
    """Load each image, and require that the engine then has exactly this image."""
    for layout in layouts_of(contents.head, set()):
        engine.load(contents.layout(layout, contents.content))
        engine.prove([layout.image])


def test_layouts_are_loaded_as_exactly_the_images_of_the_archive(
    engine: DockerEngine, real: Engine, tmp_path: Path
) -> None:
    """The second layout leaves out its only layer, because the first one has brought it."""
    with open_archive(seal(tmp_path / "images.enc", HANDMADE)) as archive:
        load_all(engine, authenticated(archive))
        assert holds(engine, archive.head.images)
    for image in HANDMADE:
        found = engine.find(image.image.reference)
        assert found is not None
        assert found.id == image.image.config
        assert found.layers == image.image.layers
    app = real.client.images.get(f"docker.io/{APP}")
    assert app.attrs["Config"]["Env"] == ["MODE=1"]


def test_a_layout_without_a_layer_that_the_engine_lacks_is_refused(
    engine: DockerEngine, real: Engine, tmp_path: Path
) -> None:
    with open_archive(seal(tmp_path / "images.enc", HANDMADE)) as archive:
        contents = authenticated(archive)
        image = contents.head.images[0]
        for sent in (image.layers[1:], ()):
            with pytest.raises(EngineRejected):
                engine.load(contents.layout(Layout(contents.head, image, sent), contents.content))
            assert engine.find(image.reference) is None
    assert tags_of_tests(real) == []
    assert unnamed_images(real) == []


@pytest.mark.parametrize("part", ["config", "layer"])
def test_a_layout_whose_content_is_not_that_of_its_digest_is_refused(
    engine: DockerEngine, real: Engine, tmp_path: Path, part: str
) -> None:
    """With gzip the head proves only the sealed bytes, so that the engine must notice what they inflate to."""
    app = HANDMADE[0]
    digest = app.image.config if part == "config" else app.image.layers[1]
    content = bytearray(b"".join(app.contents()[digest]))
    content[content.index(b"MODE=1" if part == "config" else b"top")] ^= 1
    path = seal(tmp_path / "images.enc", [app], codec=GZIP, lies={digest: bytes(content)})
    with open_archive(path) as archive, pytest.raises((EngineRejected, ArchiveCorrupt)):
        load_all(engine, authenticated(archive))
    assert tags_of_tests(real) == []
    assert unnamed_images(real) == []
