"""Updates that succeed: the new release takes the names, and the old one goes unless a container uses it."""

from __future__ import annotations

import pytest

from tests.support.archives import PREFIX
from tests.support.inventory import Inventory, id_in
from tests.support.unlocking import READY
from tests.unlock.engines.releases import NEW, OLD, OTHERS
from tests.unlock.engines.scene import Scene

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_an_update_replaces_the_old_release(scene: Scene) -> None:
    assert scene.operator.unlock() == READY
    scene.assert_updated()
    assert scene.operator.get("/unlock/plan")["done"] is True


@pytest.mark.parametrize("runs", [True, False], ids=["running", "created"])
def test_a_container_keeps_the_old_image_that_it_uses(scene: Scene, runs: bool) -> None:
    """The old image stays without a name, or goes; in both cases its container can be started afterwards."""
    container = scene.add_container(OLD[0], runs=runs)
    assert scene.operator.unlock() == READY
    gone, kept = scene.expected_after(), scene.expected_after(kept=[OLD[0]])
    assert Inventory.of(scene.engine) in (gone, kept)
    scene.assert_usable([*NEW, *OTHERS])
    if not runs:
        scene.engine.client.api.start(container)
    assert scene.engine.client.api.inspect_container(container)["State"]["Status"] == "running"


def test_an_old_image_with_another_name_keeps_it(scene: Scene) -> None:
    scene.engine.client.api.tag(OLD[0].reference, f"docker.io/{PREFIX}kept", "3")
    scene.before = Inventory.of(scene.engine)
    assert scene.operator.unlock() == READY
    assert Inventory.of(scene.engine) == scene.expected_after(kept=[OLD[0]])
    assert scene.before.names[f"docker.io/{PREFIX}kept:3"] == id_in(scene.engine, OLD[0].image)
