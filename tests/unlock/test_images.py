"""The images of an unlock in an engine that a test controls, and the remembered head.

test_run.py uses real engines.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.archive_head import PLAIN, Head, Image, Release, StoredHead
from loader.crypto.archive_seals import root_id
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import (
    ArchiveCorrupt,
    DiskSpace,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
)
from loader.oci import Layout
from loader.unlock.images import (
    REMEMBERED_NAME,
    Loading,
    remember_head,
    remembered_images,
    remove_unfinished_head,
)
from loader.unlock.plan import layouts_of
from tests.support.handmade_image import CREATED, ROOT, HandmadeImage, HandmadeLayer, sealed_blob

BASE = HandmadeLayer(b"base")
OLD = EngineImage("sha256:" + "f" * 64, (), 1, named=True)
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
RESTORED = [("restore", reference) for reference in REFERENCES]


def as_loaded(image: Image) -> EngineImage:
    return EngineImage(image.config, image.layers, 1, named=True)


def planned(head: Head, present: set[str] | None = None) -> list[Layout]:
    return list(layouts_of(head, present or set()))


def whole(layout: Layout) -> Layout:
    return replace(layout, layers=layout.image.layers)


class Pieces:
    """A delivery of zeros. `taken` are the layouts that were asked for."""

    preparation = 0

    def __init__(self) -> None:
        self.taken: list[Layout] = []

    def prepare(self, fragment: bytes, on_prepared: Callable[[int], None]) -> None:
        """Everything was authenticated before the test."""

    def pieces(self, layout: Layout) -> Iterator[bytes]:
        self.taken.append(layout)
        yield bytes(10)
        yield bytes(layout.size - 10)

    def close(self) -> None:
        """There is nothing to close."""


class ControlledEngine(DockerEngine):
    """Has `images` by their names. `done` lists the names given and the tidying steps.

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
        self.tidying_fails: LoaderError | None = None
        self.unpacked = UNPACKED
        self._before = dict(images)
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

    def restore(self, reference: str, image: EngineImage | None) -> None:
        assert image == self._before.get(reference)
        self._note("restore", reference)

    def remove_if_dangling(self, image: EngineImage) -> None:
        self._note("remove", image.id)

    def _note(self, work: str, what: str) -> None:
        self.done.append((work, what))
        if self.tidying_fails is not None:
            raise self.tidying_fails


def engine_with(*outcomes: BaseException | None) -> ControlledEngine:
    """Return an engine that has another image under the first name."""
    return ControlledEngine({REFERENCES[0]: OLD}, *outcomes)


def load_counted(engine: ControlledEngine, head: Head = HEAD, layouts: list[Layout] | None = None) -> list[int]:
    reached: list[int] = []
    Loading(engine, head, planned(head) if layouts is None else layouts, engine.delivery).run(reached.append)
    return reached


def test_a_load_counts_taken_and_unpacked_bytes_and_removes_replaced_images() -> None:
    engine = engine_with()
    expected, before = [], 0
    for layout in planned(HEAD):
        expected += [before + 10, before + layout.size, before + layout.size + UNPACKED]
        before += 2 * layout.size
    assert load_counted(engine) == expected
    assert engine.delivery.taken == planned(HEAD)
    assert engine.done == [("remove", OLD.id)]


def test_an_engine_that_unpacks_more_than_was_sent_counts_twice_at_most() -> None:
    """Its layers were sent without some that it unpacks too."""
    engine = engine_with()
    engine.unpacked = 1 << 40
    assert load_counted(engine)[-1] == 2 * sum(layout.size for layout in planned(HEAD))


def test_the_engine_works_on_an_image_once_it_has_all_of_it() -> None:
    engine = engine_with()
    loading = Loading(engine, HEAD, planned(HEAD)[:1], engine.delivery)
    seen: list[bool] = []
    with pytest.raises(ImageMismatch):  # the other images are not loaded
        loading.run(lambda _: seen.append(loading.is_committing))
    assert seen == [False, True, True]


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("gone")], ids=repr)
@pytest.mark.parametrize("position", range(3))
def test_after_a_stall_the_image_in_the_engine_decides(fault: LoaderError, position: int) -> None:
    outcomes = [None] * position + [fault]
    engine = engine_with(*outcomes)
    engine.loads_despite_fault = True
    load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)
    assert engine.done == [("remove", OLD.id)]

    engine = engine_with(*outcomes)
    with pytest.raises(type(fault)) as raised:
        load_counted(engine)
    assert raised.value is fault
    assert engine.delivery.taken == planned(HEAD)[: position + 1]  # nothing is sent once more
    assert engine.done == RESTORED


def test_an_engine_that_stays_down_after_a_stall_keeps_the_first_error() -> None:
    fault = EngineStalled("silent")
    engine = engine_with(fault)
    engine.after_load = lambda: setattr(engine, "is_down", True)
    with pytest.raises(EngineStalled) as raised:
        load_counted(engine)
    assert raised.value is fault


@pytest.mark.parametrize(
    "fault",
    [
        EngineRejected("no"),
        DiskSpace("full"),
        ArchiveCorrupt("changed"),
        ZeroDivisionError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("position", [0, 2])
def test_any_other_failure_restores_every_reference(fault: BaseException, position: int) -> None:
    # A refused layout without lower layers is sent once more with all.
    engine = engine_with(*[None] * position, fault, fault)
    with pytest.raises(type(fault)):
        load_counted(engine)
    assert engine.done == RESTORED


def test_a_layout_without_lower_layers_that_is_refused_is_sent_with_all_layers() -> None:
    """The engine may have lost the layers that an earlier layout has brought."""
    engine = engine_with(None, EngineRejected("a layer is absent"))
    reached = load_counted(engine)
    first, second, third = planned(HEAD)
    assert second != whole(second)
    assert engine.delivery.taken == [first, second, whole(second), third]
    # The next image is counted as if nothing had been sent twice.
    assert reached[-1] == 2 * (first.size + second.size) + third.size + UNPACKED


def test_a_layout_without_lower_layers_that_makes_another_image_is_sent_with_all_layers() -> None:
    engine = engine_with()

    def loses_the_image() -> None:
        if len(engine.delivery.taken) == 2:
            del engine.images[REFERENCES[1]]

    engine.after_load = loses_the_image
    load_counted(engine)
    first, second, third = planned(HEAD)
    assert engine.delivery.taken == [first, second, whole(second), third]


def test_a_layout_is_sent_twice_at_most() -> None:
    engine = engine_with(None, EngineRejected("first"), EngineRejected("second"))
    with pytest.raises(EngineRejected, match="second"):
        load_counted(engine)
    assert len(engine.delivery.taken) == 3
    assert engine.done == RESTORED


def test_a_whole_layout_that_is_refused_is_not_sent_again() -> None:
    engine = engine_with(EngineRejected("no"))
    with pytest.raises(EngineRejected):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:1]


@pytest.mark.parametrize("wrong", [OLD, None], ids=["another image", "no image"])
def test_an_image_that_is_not_the_expected_one_ends_the_run_at_once(wrong: EngineImage | None) -> None:
    engine = engine_with()
    image = HEAD.images[0]

    def load_wrongly() -> None:
        engine.images.pop(image.reference)
        if wrong is not None:
            engine.images[image.reference] = replace(wrong, layers=image.layers)

    engine.after_load = load_wrongly
    with pytest.raises(ImageMismatch, match=image.reference):
        load_counted(engine)
    assert engine.delivery.taken == planned(HEAD)[:1]
    assert engine.done == RESTORED


def test_an_image_that_is_removed_during_the_run_is_noticed_at_its_end() -> None:
    engine = engine_with()

    def remove_first_image() -> None:
        if len(engine.delivery.taken) == 3:
            del engine.images[REFERENCES[0]]

    engine.after_load = remove_first_image
    with pytest.raises(ImageMismatch, match=REFERENCES[0]):
        load_counted(engine)
    assert engine.done == RESTORED


@pytest.mark.parametrize(("fault", "tried"), [(EngineRejected("in use"), 3), (EngineUnavailable("gone"), 1)], ids=repr)
def test_an_error_during_tidying_is_only_logged(
    fault: LoaderError, tried: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is down is not called again for each image."""
    engine = engine_with(DiskSpace("full"))
    engine.tidying_fails = fault
    with pytest.raises(DiskSpace):
        load_counted(engine)
    assert engine.done == RESTORED[:tried]
    assert ["could not be tidied up" in message for message in caplog.messages] == [True] * tried


def test_an_image_that_is_loaded_under_its_first_name_gets_its_other_names() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"), handmade(1), replace(image, reference="third:1"))
    names = [reference for reference in (found.reference for found in head.images) if "app:1" not in reference]
    engine = ControlledEngine({names[2]: OLD})
    load_counted(engine, head)
    assert [layout.image.reference for layout in engine.delivery.taken] == [names[0], REFERENCES[1]]
    assert engine.done == [(f"name {names[0]}", names[1]), (f"name {names[0]}", names[2]), ("remove", OLD.id)]
    assert {engine.images[name] for name in names} == {as_loaded(image.image)}


def test_an_image_that_is_there_under_one_name_gets_the_others_without_a_load() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"))
    first, second = (found.reference for found in head.images)
    engine = ControlledEngine({second: as_loaded(image.image)})
    load_counted(engine, head, planned(head, {second}))
    assert engine.delivery.taken == []
    assert engine.done == [(f"name {second}", first), ("remove", image.image.config)]


def test_an_engine_that_refuses_a_name_ends_the_run() -> None:
    image = handmade(0)
    head = head_with(image, replace(image, reference="second:1"))

    class Refusing(ControlledEngine):
        def name(self, present: str, reference: str) -> None:
            raise EngineRejected(f"{present} gets no name {reference}")

    engine = Refusing({})
    with pytest.raises(EngineRejected):
        load_counted(engine, head)
    assert engine.done == [("restore", found.reference) for found in head.images]


def test_a_remembered_head_can_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    assert remembered_images(directory) == ()
    remember_head(directory, StoredHead.of(HEAD))
    assert remembered_images(directory) == HEAD.images
    assert [path.name for path in directory.iterdir()] == [REMEMBERED_NAME]
    assert stat.S_IMODE((directory / REMEMBERED_NAME).stat().st_mode) == 0o600


def test_all_names_of_an_image_are_remembered(tmp_path: Path) -> None:
    image = handmade(0)
    head = head_with(*(replace(image, reference=f"name:{number}") for number in range(200)))
    remember_head(tmp_path, StoredHead.of(head))
    assert remembered_images(tmp_path) == head.images
    assert len(head.images) == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"images": []}', b"\xff", b"[" * 100_000, json.dumps({"format": 1}).encode()],
    ids=len,
)
def test_an_unusable_remembered_head_causes_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / REMEMBERED_NAME).write_bytes(content)
    assert remembered_images(tmp_path) == ()
    assert [str(tmp_path / REMEMBERED_NAME) in message for message in caplog.messages] == [True]


def test_a_head_that_cannot_be_written_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / REMEMBERED_NAME).mkdir()
    remember_head(tmp_path, StoredHead.of(HEAD))
    assert ["could not be remembered" in message for message in caplog.messages] == [True]
    assert [path.name for path in tmp_path.iterdir()] == [REMEMBERED_NAME]


def test_only_the_unfinished_head_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    remember_head(tmp_path, StoredHead.of(HEAD))
    (tmp_path / f".{REMEMBERED_NAME}.k1ll3d__").write_bytes(b"{")
    (tmp_path / ".upload-other").write_bytes(b"x")
    remove_unfinished_head(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-other", REMEMBERED_NAME]
    remove_unfinished_head(tmp_path / "absent")
