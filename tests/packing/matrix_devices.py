"""The devices of the matrix: what an engine has before and after an unlock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive_head import Image
from loader.docker_engine import DockerEngine
from loader.settings import Settings
from loader.unlock.delivery import image_delivery
from loader.unlock.images import Loading
from loader.unlock.plan import described, look_up_images, make_plan
from tests.support.archives import remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.images import holds, saved_images
from tests.support.inventory import Inventory, id_in

CALL_SECONDS = 60


def unlock(archive_path: Path, mode: str) -> None:
    """Take the steps of an unlock that concern the engine of DOCKER_HOST. Everything must be absent before."""
    engine = DockerEngine(CALL_SECONDS)
    models = archive_path.with_name("models")
    models.mkdir(exist_ok=True)
    paths = {"IMAGES_PATH": str(archive_path), "MODEL_CACHE_DIR": str(models)}
    settings = Settings.from_env({**paths, "UNLOCK_MODE": mode})
    with open_archive(archive_path) as archive:
        found = look_up_images(engine, archive.head)
        assert not any(image.present for image in found)
        plan = make_plan(settings, archive, found, engine, described(engine))
        with image_delivery(settings, archive, plan.layouts, lambda: None) as delivery:
            delivery.prepare(FRAGMENT, lambda _: None)
            Loading(engine, archive.head, plan.layouts, delivery).run(lambda _: None)
        assert all(image.present for image in look_up_images(engine, archive.head))


@contextmanager
def nothing_else_appears(engine: Engine, images: Sequence[Image]) -> Iterator[None]:
    """Require that the block makes `engine` hold exactly `images` besides what it held, then remove all test images."""
    remove_all_images(engine)
    before = Inventory.of(engine)
    try:
        yield
        names = {image.reference: id_in(engine, image) for image in images}
        assert Inventory.of(engine) == replace(
            before, names=before.names | names, images=before.images | frozenset(names.values())
        )
    finally:
        remove_all_images(engine)
    assert Inventory.of(engine) == before


def assert_exact(engine: Engine, images: Sequence[Image], directory: Path) -> None:
    """Require that the engine of DOCKER_HOST has exactly these images, can use them, and can give them back whole."""
    loader_engine = DockerEngine(CALL_SECONDS)
    assert holds(loader_engine, images)
    for image in images:
        found = loader_engine.find(image.reference)
        assert found is not None
        assert (found.id, found.layers) == (id_in(engine, image), image.layers)
        # podman does not tell the variant of an architecture.
        assert found.platform in (image.platform, image.platform.rpartition("/")[0])
        container = engine.client.api.create_container(image.reference, "/run")
        engine.client.api.remove_container(container["Id"])
    saved = saved_images(engine, [image.reference for image in images], directory / "saved.tar")
    assert saved == {image.reference: (image.config, image.layers) for image in images}
