"""A device that goes back to its previous release and forward again, and what its engine must have in between."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader.references import full_reference
from loader.unlock.previous import pin_of
from tests.support.archives import PREFIX, VERSION
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.http_calls import Reply, call
from tests.support.http_framing import RecordedRequest
from tests.support.images import saved_images
from tests.support.inventory import Inventory, id_in, require_inventory
from tests.support.processes import poll
from tests.support.recording_proxy import Line, RecordingProxy
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.engines.releases import NEW, OLD, OTHERS, release

HELD_SECONDS = 30.0
# A loader has restored everything within this time after the engine and the loader run again.
RESTORE_SECONDS = 20.0
# The requests that change what the engine has.
CHANGE = re.compile(r"/images/.+/tag$|/images/[^?]+$|/containers/")


def image(name: str, note: str) -> HandmadeImage:
    """Return a small image under a name of its own."""
    content = HandmadeLayer(f"{name} {note}".encode().ljust(5000, b"."), name="note.bin")
    return HandmadeImage(full_reference(f"{PREFIX}{name}:{VERSION}"), (content,), {"Cmd": ["/pause"]})


SAME, ONLY_OLD, ONLY_NEW = image("same", "1"), image("only-old", "1"), image("only-new", "1")
# Two images have changed, one has not, one has gone, and one is new.
FORMER: tuple[HandmadeImage, ...] = (*OLD, SAME, ONLY_OLD)
LATTER: tuple[HandmadeImage, ...] = (*NEW, SAME, ONLY_NEW)
LAST: tuple[HandmadeImage, ...] = (*release(b"last"), SAME)


class StepWire(RecordingProxy):
    """Holds the response to one of the requests that change the engine, which has done then what it was asked for."""

    def __init__(self, listen: Path, upstream: Path) -> None:
        super().__init__(listen, upstream)
        self.changes = 0
        self._hold: int | None = None
        self._released = threading.Event()
        self._held = threading.Event()

    def hold(self, number: int | None) -> None:
        """Count changes from 0, and hold the response to that with this number."""
        self.changes, self._hold = 0, number
        self._released.clear()
        self._held.clear()

    def wait_until_held(self) -> bool:
        """Wait until the response is held. Return False if so many changes did not come within the time."""
        return self._held.wait(HELD_SECONDS)

    def release(self) -> None:
        """Cut what is held."""
        self._hold = None
        self._released.set()

    def note(self, line: Line, request: RecordedRequest) -> None:
        """Count a change."""
        super().note(line, request)
        self.changes += _is_change(request)

    def before_response(self, line: Line, _: int) -> None:
        """Hold the response to the change that the test wants."""
        request = line.request
        if request is not None and _is_change(request) and self.changes - 1 == self._hold:
            self._held.set()
            self._released.wait()
            line.cut()


def _is_change(request: RecordedRequest) -> bool:
    path = request.path.partition("?")[0]
    return request.method in ("POST", "DELETE") and CHANGE.search(path) is not None


@dataclass
class Returning:
    """A device in front of `engine` whose releases the test names by the images that they consist of."""

    engine: Engine
    device: UnlockDevice
    wire: StepWire
    scratch: Path
    serial: int = 0

    def __post_init__(self) -> None:
        for other in OTHERS:
            list(self.engine.client.api.load_image(b"".join(docker_archive(other))))
        self.foreign = Inventory.of(self.engine)
        self.operator = self.start_loader()

    def start_loader(self) -> Operator:
        """Start a loader on the files of the device."""
        return self.device.start(self.wire.host, UNLOCK_MODE="stream", TMPDIR=str(self.scratch))

    def unlock(self, images: Sequence[HandmadeImage]) -> None:
        """Unlock a release of `images` whose serial is the next one."""
        self.serial += 1
        self.device.put(seal(self.scratch / "sealed.enc", images, version=VERSION, serial=self.serial))
        assert self.operator.unlock() == READY

    def back(self) -> Reply:
        """Ask the loader to go back."""
        return call(self.operator.loader.url, "POST", "/unlock/back")

    def went_back(self) -> dict[str, Any]:
        """Go back, which must succeed, and return the response."""
        reply = self.back()
        assert reply.status == 200, reply.body
        return dict(reply.json())

    @contextmanager
    def asked(self, step: int) -> Iterator[None]:
        """Have a loader go back; the block runs once the engine has made the change with the number `step`."""
        self.wire.hold(step)
        caller = threading.Thread(target=self._ask)
        caller.start()
        assert self.wire.wait_until_held()
        yield
        self.wire.release()
        caller.join()

    def _ask(self) -> None:
        try:
            self.back()
        except (OSError, ValueError):  # the loader is killed meanwhile
            return

    def kill_loader(self) -> None:
        """Kill the loader, and start another one."""
        self.operator.loader.process.kill_tree()
        self.wire.release()
        self.operator = self.start_loader()

    def kill_engine(self) -> None:
        """Kill the engine, and start it again."""
        self.engine.kill()
        self.wire.release()
        self.engine.restart()

    def cut_power(self) -> None:
        """Kill both, and start the loader before the engine."""
        self.operator.loader.process.kill_tree()
        self.engine.kill()
        self.wire.release()
        self.operator = self.start_loader()
        self.engine.restart()

    def expected(
        self,
        present: Sequence[HandmadeImage],
        previous: Sequence[HandmadeImage] = (),
        left: Sequence[HandmadeImage] = (),
    ) -> Inventory:
        """Return what the engine has with these two releases, if an unlock has `left` names of earlier ones."""
        named = {each.reference: id_in(self.engine, each.image) for each in (*present, *left)}
        pinned = {pin_of(each.reference): id_in(self.engine, each.image) for each in previous}
        names = {**self.foreign.names, **named, **pinned}
        images = self.foreign.images | set(names.values())
        return Inventory(names, frozenset(images), self.foreign.containers, self.foreign.volumes)

    def require(
        self,
        present: Sequence[HandmadeImage],
        previous: Sequence[HandmadeImage] = (),
        left: Sequence[HandmadeImage] = (),
    ) -> None:
        """Require what `require_names` does, and that the engine can run the present release and gives it back."""
        self.require_names(present, previous, left)
        for each in (*present, *OTHERS):
            container = self.engine.client.api.create_container(each.reference, "/pause")
            self.engine.client.api.remove_container(container["Id"])
        saved = saved_images(self.engine, [each.reference for each in present], self.scratch / "saved.tar")
        assert saved == {each.reference: (each.image.config, each.image.layers) for each in present}

    def require_names(
        self,
        present: Sequence[HandmadeImage],
        previous: Sequence[HandmadeImage] = (),
        left: Sequence[HandmadeImage] = (),
    ) -> None:
        """Require that the engine has exactly this, that the device remembers it, and that nothing is to be undone."""
        require_inventory(self.engine, self.expected(present, previous, left))
        assert self.remembered() == tuple(sorted(each.reference for each in present))
        assert not self.device.journal.exists()

    def remembered(self) -> tuple[str, ...]:
        """Return the references of the release that the device takes for the present one."""
        head = json.loads(json.loads(self.device.remembered.read_text())["head"])
        return tuple(sorted(each["reference"] for each in head["images"]))

    def wait_until_settled(self) -> None:
        """Wait until the loader has nothing more to do after a kill."""
        poll(lambda: not self.device.journal.exists(), RESTORE_SECONDS, "the journal is gone")
