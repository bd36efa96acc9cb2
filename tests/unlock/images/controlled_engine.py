"""An engine that a test controls, and the head of an archive of three images for it.

tests/unlock/test_run.py uses real engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from loader.crypto.archive_head import PLAIN, Head, Image, Release
from loader.crypto.archive_seals import root_id
from loader.docker_engine import Absent, DockerEngine, EngineImage
from loader.errors import EngineUnavailable
from loader.oci import Layout
from loader.unlock.images import Loading
from loader.unlock.layers import layouts_of
from tests.support.handmade_image import CREATED, ROOT, HandmadeImage, HandmadeLayer, sealed_blob

BASE = HandmadeLayer(b"base")
OLD = EngineImage("sha256:" + "f" * 64, (), 1)
UNPACKED = 7


def head_with(*images: HandmadeImage) -> Head:
    """Return the head of an archive of `images`."""
    contents = {digest: b"".join(pieces) for image in images for digest, pieces in image.contents().items()}
    blobs = tuple(sealed_blob(digest, content, ROOT, PLAIN)[0] for digest, content in contents.items())
    return Head(Release("1.4", 1, CREATED), root_id(ROOT), tuple(image.image for image in images), blobs)


def handmade(number: int) -> HandmadeImage:
    """Return an image whose lower layer all of these images have."""
    return HandmadeImage(f"app:{number}", (BASE, HandmadeLayer(b"%d" % number)))


HEAD = head_with(*map(handmade, range(3)))
REFERENCES = [image.reference for image in HEAD.images]


def as_loaded(image: Image) -> EngineImage:
    """Return `image` as the engine has it after a load."""
    return EngineImage(image.config, image.layers, 1)


def planned(head: Head, present: set[str] | None = None) -> list[Layout]:
    """Return the layouts of a run on an engine that has the images named in `present`."""
    return list(layouts_of(head, present or set()))


class Pieces:
    """A delivery of zeros. `taken` are the layouts that were asked for, `authenticated` those that were not planned."""

    preparation = 0

    def __init__(self) -> None:
        self.taken: list[Layout] = []
        self.authenticated: list[Layout] = []

    def prepare(self, fragment: bytes, on_prepared: Callable[[int], None]) -> None:
        """Everything that was planned was authenticated before the test."""

    def authenticate(self, layouts: Iterable[Layout]) -> None:
        self.authenticated += layouts

    def pieces(self, layout: Layout) -> Iterator[bytes]:
        self.taken.append(layout)
        yield bytes(10)
        yield bytes(layout.size - 10)

    def close(self) -> None:
        """There is nothing to close."""


class ControlledEngine(DockerEngine):
    """Has `images` by their names. `done` lists the names given.

    A load takes the next of `outcomes`: it loads the image unless that is an error, and raises it. `after_load` runs at
    the end of a load.
    """

    def __init__(self, images: dict[str, EngineImage], *outcomes: BaseException | None) -> None:
        super().__init__(1)
        self.images = dict(images)
        self.delivery = Pieces()
        self.done: list[tuple[str, str]] = []
        self.after_load: Callable[[], None] = lambda: None
        self.loads_despite_fault = False
        self.is_down = False
        self.unpacked = UNPACKED
        self._outcomes = iter(outcomes)

    def find(self, reference: str) -> EngineImage | None:
        if self.is_down:
            raise EngineUnavailable("The Docker engine does not respond.")
        return self.images.get(reference)

    def load(self, tar: Iterable[bytes | memoryview], on_unpacked: Callable[[int], None] = lambda _: None) -> None:
        announced = len(tar)  # type: ignore[arg-type]
        assert sum(map(len, tar)) == announced == self.delivery.taken[-1].size
        on_unpacked(self.unpacked)
        fault = next(self._outcomes, None)
        if fault is None or self.loads_despite_fault:
            image = self.delivery.taken[-1].image
            self.images[image.reference] = as_loaded(image)
        self.after_load()
        if fault is not None:
            raise fault

    def name(self, present: str, reference: str) -> None:
        self.done.append((f"name {present}", reference))
        self.images[reference] = self.images[present]

    def remove_name(self, reference: str) -> None:
        if self.images.pop(reference, None) is None:
            raise Absent(f"no image {reference}")


def engine_with(*outcomes: BaseException | None) -> ControlledEngine:
    """Return an engine that has another image under the first name."""
    return ControlledEngine({REFERENCES[0]: OLD}, *outcomes)


def load_counted(engine: ControlledEngine, head: Head = HEAD, layouts: list[Layout] | None = None) -> list[int]:
    """Load `layouts`, by default all of `head`, and return what the run has counted."""
    reached: list[int] = []
    Loading(engine, head, planned(head) if layouts is None else layouts, engine.delivery).run(reached.append)
    return reached
