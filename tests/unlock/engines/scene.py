"""A device with the old release, a bystander and a container, and what must be there after an unlock of the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from docker.types import Ulimit

from loader.unlock.previous import pin_of
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, docker_archive
from tests.support.images import remove_image, saved_images, unnamed_images
from tests.support.inventory import Inventory, id_in, require_inventory
from tests.support.unlocking import READY, Operator, Status, UnlockDevice
from tests.unlock.engines.account import account_of, explained
from tests.unlock.engines.releases import NEW, OLD, OTHERS, seal_new, seal_old

# How long the engine may be silent. After a kill of the loader, it may finish a load for this long.
SILENCE_SECONDS = "10"
# A loader has restored everything within this time after the engine and the loader run again.
RESTORE_SECONDS = float(SILENCE_SECONDS) + 15


@dataclass
class Scene:
    """A device in front of `engine` in one mode. `before` is what the engine had before the unlock under test."""

    engine: Engine
    device: UnlockDevice
    wire: FaultyWire
    mode: str
    scratch: Path

    def __post_init__(self) -> None:
        self.operators: list[Operator] = []
        self.operator = self.start_loader()
        self.before = self.prepare()

    def start_loader(self) -> Operator:
        """Start a loader on the files of the device."""
        env = {"UNLOCK_MODE": self.mode, "ENGINE_TIMEOUT": SILENCE_SECONDS, "TMPDIR": str(self.scratch)}
        self.operators.append(self.device.start(self.wire.host, **env))
        return self.operators[-1]

    def prepare(self) -> Inventory:
        """Unlock the old release beside the other images, and put the new one in place. Return what is there then."""
        for image in OTHERS:
            list(self.engine.client.api.load_image(b"".join(docker_archive(image))))
        assert self.unlock(seal_old(self.scratch / "old.enc")) == READY
        self.device.put(seal_new(self.scratch / "new.enc"))
        return Inventory.of(self.engine)

    def account(self) -> str:
        """Return what explains a failure: statuses, journal, inventory and logs."""
        return account_of(self.engine, self.device.journal, self.operators)

    def unlock(self, archive: Path) -> Status:
        """Put a copy of `archive` in place, and unlock it."""
        self.device.put(archive)
        return self.operator.unlock()

    def hold(self, after: int) -> None:
        """Start an unlock, and hold it when the engine has got `after` bytes of an image."""
        self.wire.hold_upload(after)
        assert self.operator.post()[0] == 200
        self.wire.wait_until_held()

    def cut_power(self) -> None:
        """Kill the loader and the engine, and start the loader before the engine."""
        self.operator.loader.process.kill_tree()
        self.engine.kill()
        self.wire.heal()
        self.operator = self.start_loader()
        self.engine.restart()

    def assert_as_before(self, within: float = 0) -> None:
        """Require that the engine has what it had, can run it, and that the disk has no tar."""
        with explained(self.account):
            require_inventory(self.engine, self.before, within)
            self.assert_usable([*OLD, *OTHERS])
            assert not self.device.tar.exists()

    def add_container(self, image: HandmadeImage, *, runs: bool) -> str:
        """Create a container, start it if it `runs`, and return its ID. What is there before the unlock has it too."""
        api = self.engine.client.api
        # podman 4.3 asks for limits that a machine without all of root's rights refuses.
        limits = [Ulimit(name=name, soft=256, hard=256) for name in ("nofile", "nproc")]
        settings = api.create_host_config(network_mode="none", ulimits=limits)
        container: str = api.create_container(image.reference, "/pause", host_config=settings)["Id"]
        if runs:
            api.start(container)
        self.before = Inventory.of(self.engine)
        return container

    def expected_after(self) -> Inventory:
        """Return what must be there once the new release is.

        The old release, which was unlocked before, is there for a way back.
        """
        ids = {image: id_in(self.engine, image.image) for image in (*OLD, *NEW)}
        names = self.before.names | {image.reference: ids[image] for image in NEW}
        names |= {pin_of(image.reference): ids[image] for image in OLD}
        return replace(self.before, names=names, images=frozenset(names.values()))

    def assert_updated(self) -> None:
        """Require that the engine has the new release in the place of the old one, and nothing else that is new."""
        with explained(self.account):
            require_inventory(self.engine, self.expected_after())
            self.assert_usable([*NEW, *OTHERS])
            assert not self.device.tar.exists()

    def finish(self) -> None:
        """Require that the next unlock of the new release succeeds."""
        with explained(self.account):
            status = self.unlock(self.scratch / "new.enc")
            assert status == READY, status
        self.assert_updated()

    def assert_usable(self, images: Sequence[HandmadeImage]) -> None:
        """Require that containers of `images` can be made, and that the engine gives back every layer of them."""
        for image in images:
            container = self.engine.client.api.create_container(image.reference, "/pause")
            self.engine.client.api.remove_container(container["Id"])
        saved = saved_images(self.engine, [image.reference for image in images], self.scratch / "saved.tar")
        assert saved == {image.reference: (image.image.config, image.image.layers) for image in images}


def clean(engine: Engine) -> None:
    """Remove every container and image of `engine`."""
    api = engine.client.api
    for container in api.containers(all=True):
        api.remove_container(container["Id"], force=True, v=True)
    for name in Inventory.of(engine).names:
        remove_image(engine, name)
    for image in unnamed_images(engine):
        remove_image(engine, image)
    assert Inventory.of(engine) == Inventory({}, frozenset(), {}, frozenset())
