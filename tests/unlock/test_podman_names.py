"""podman puts names without a registry below localhost: an unlock neither uses nor touches such an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import APP, Packed, remove_all_images, tags_of_tests
from tests.support.engines import Engine
from tests.support.images import image_id, import_image
from tests.support.unlocking import READY
from tests.unlock.watched_device import watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

LOCAL = f"localhost/{APP}"


@pytest.fixture(params=["podman_engine", "podman_5"])
def real_podman(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each podman in turn."""
    engine: Engine = request.getfixturevalue(request.param)
    yield engine
    remove_all_images(engine)


@pytest.mark.long
def test_an_image_below_localhost_is_told_and_stays(real_podman: Engine, packed: Packed, tmp_path: Path) -> None:
    archive = packed.path.read_bytes()
    local = import_image(real_podman, LOCAL)
    told = f"The engine also has another image {LOCAL}, and podman takes {APP} for that one: "
    with watched_device(tmp_path, real_podman, "stream") as watched:
        assert [text.startswith(told) for text in watched.plan(archive)["warnings"]] == [True]
        assert watched.unlock(archive) == READY
        plan = watched.plan(archive)
        assert all(image["present"] for image in plan["images"])
        assert [text.startswith(told) for text in plan["warnings"]] == [True]
        assert watched.unlock(archive) == READY
        assert watched.loads == []
    assert image_id(real_podman, LOCAL) == local
    full = {f"docker.io/{image.reference.removeprefix('docker.io/')}" for image in packed.images}
    assert tags_of_tests(real_podman) == sorted({LOCAL, *full})
    assert {image_id(real_podman, image.reference).removeprefix("sha256:") for image in packed.images} == {
        image.config.removeprefix("sha256:") for image in packed.images
    }
