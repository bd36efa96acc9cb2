"""Each engine once: an update that fails, one that is killed, and one that succeeds. The other files have all pairs."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests.support.engine_kinds import KINDS
from tests.support.engines import engine_of
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.conftest import MakeScene
from tests.unlock.engines.releases import IN_SECOND, seal_new, seal_with_wrong_layer
from tests.unlock.engines.scene import RESTORE_SECONDS
from tests.unlock.watched_device import MODES

pytest_plugins = ("tests.support.unlock_fixtures",)


# The engine of this machine in each run, the others, half a minute each, in the long one.
HERE = "docker_engine"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(kind, mode, marks=() if kind == HERE else pytest.mark.long)
        for kind, mode in zip(KINDS, cycle(MODES), strict=False)
    ],
)
def test_an_engine_has_the_old_release_until_it_has_the_new_one(kind: str, mode: str, make_scene: MakeScene) -> None:
    with engine_of(kind) as engine:
        scene = make_scene(engine, mode)
        assert_failed(scene.unlock(seal_with_wrong_layer(scene.scratch / "wrong.enc")), "ENGINE_REJECTED")
        scene.assert_as_before()

        scene.device.put(seal_new(scene.scratch / "new.enc"))
        scene.hold(IN_SECOND)
        scene.cut_power()
        scene.assert_as_before(within=RESTORE_SECONDS)

        scene.finish()
        scene.operator.loader.stop()
