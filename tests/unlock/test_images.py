"""The engine's part of an unlock, with an engine that does as it is told; real ones are in test_unlock_*."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import (
    ArchiveCorrupt,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
)
from loader.unlock.images import load_images

DIGEST = "sha256:" + "1" * 64
IMAGES = tuple(ManifestImage(f"app:{number}", f"sha256:{number:064}", (DIGEST,), "2026") for number in range(3))
OLD = EngineImage("sha256:" + "f" * 64, (), "2020", 1, named=True)
Images = dict[str, EngineImage]
TAR = (b"a" * 10, b"b" * 20)


def as_loaded(image: ManifestImage) -> EngineImage:
    return EngineImage(image.id, image.layers, image.created, 1, named=True)


class Tar:
    size = 30

    def authenticate(self, fragment: bytes, progress: Callable[[int], None]) -> None:
        """Done before."""

    def pieces(self) -> Iterator[bytes]:
        return iter(TAR)

    def close(self) -> None:
        """Nothing to close."""


class ToldEngine(DockerEngine):
    """Has the images `before` a load and `after` it, which may end with a `fault`. `done` is what it tidied up."""

    def __init__(
        self, before: dict[str, EngineImage], after: dict[str, EngineImage], fault: BaseException | None
    ) -> None:
        super().__init__(1)
        self.images = before
        self.done: list[tuple[str, str]] = []
        self.tidying_fails: LoaderError | None = None
        self._after = after
        self._fault = fault

    def find(self, reference: str) -> EngineImage | None:
        return self.images.get(reference)

    def load(self, tar: Iterable[bytes | memoryview], on_unpacked: Callable[[int], None] = lambda _: None) -> None:
        assert b"".join(tar) == b"".join(TAR)
        on_unpacked(7)
        self.images = self._after
        if self._fault is not None:
            raise self._fault

    def restore(self, reference: str, image: EngineImage | None) -> None:
        self._note("restore", reference)
        assert image == (OLD if reference == IMAGES[0].reference else None)

    def remove_if_dangling(self, image: EngineImage) -> None:
        self._note("remove", image.id)

    def _note(self, work: str, what: str) -> None:
        self.done.append((work, what))
        if self.tidying_fails is not None:
            raise self.tidying_fails


BEFORE = {IMAGES[0].reference: OLD}
LOADED = {image.reference: as_loaded(image) for image in IMAGES}
RESTORED = [("restore", image.reference) for image in IMAGES]


def told(after: Images, fault: BaseException | None = None) -> ToldEngine:
    return ToldEngine(BEFORE, after, fault)


def load(engine: DockerEngine) -> list[int]:
    reached: list[int] = []
    load_images(engine, IMAGES, Tar(), reached.append)
    return reached


def test_a_load_counts_what_is_taken_and_then_what_is_unpacked_and_drops_what_was_replaced() -> None:
    engine = told(LOADED)
    assert load(engine) == [10, 30, 37]
    assert engine.done == [("remove", OLD.id)]


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("gone")], ids=repr)
def test_after_a_silence_the_images_decide(fault: LoaderError) -> None:
    engine = told(LOADED, fault)
    load(engine)
    assert engine.done == [("remove", OLD.id)]

    engine = told({}, fault)
    with pytest.raises(type(fault)) as raised:
        load(engine)
    assert raised.value is fault
    assert engine.done == RESTORED


@pytest.mark.parametrize(
    "fault",
    [EngineRejected("no"), ArchiveCorrupt("changed"), ZeroDivisionError("a bug"), KeyboardInterrupt()],
    ids=repr,
)
def test_any_other_failure_takes_everything_back(fault: BaseException) -> None:
    engine = told(LOADED, fault)
    with pytest.raises(type(fault)):
        load(engine)
    assert engine.done == RESTORED


def test_other_images_than_those_of_the_manifest_are_taken_back() -> None:
    engine = told({**LOADED, IMAGES[1].reference: OLD})
    with pytest.raises(ImageMismatch, match=IMAGES[1].reference):
        load(engine)
    assert engine.done == RESTORED


@pytest.mark.parametrize(("fault", "tried"), [(EngineRejected("in use"), 3), (EngineUnavailable("gone"), 1)], ids=repr)
def test_to_fail_while_tidying_up_changes_nothing_but_the_log(
    fault: LoaderError, tried: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is not there any more is not asked again for each image."""
    engine = told({})
    engine.tidying_fails = fault
    with pytest.raises(ImageMismatch):
        load(engine)
    assert engine.done == RESTORED[:tried]
    assert ["could not be tidied up" in message for message in caplog.messages] == [True] * tried
