"""The images of an unlock in an engine that a test controls, and the remembered manifest.

test_run.py uses real engines.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from loader.crypto.archive import Manifest, ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import (
    ArchiveCorrupt,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    LoaderError,
)
from loader.unlock.images import (
    REMEMBERED_NAME,
    load_images,
    remember_manifest,
    remembered_images,
    remove_unfinished_manifest,
)

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
        """The tar was authenticated before the test."""

    def pieces(self) -> Iterator[bytes]:
        return iter(TAR)

    def close(self) -> None:
        """There is nothing to close."""


class ControlledEngine(DockerEngine):
    """Has the images `before` a load and `after` it. The load may raise `fault`. `done` lists the tidying steps."""

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


def engine_with(after: Images, fault: BaseException | None = None) -> ControlledEngine:
    return ControlledEngine(BEFORE, after, fault)


def load_counted(engine: DockerEngine) -> list[int]:
    reached: list[int] = []
    load_images(engine, IMAGES, Tar(), reached.append)
    return reached


def test_a_load_counts_taken_and_unpacked_bytes_and_removes_replaced_images() -> None:
    engine = engine_with(LOADED)
    assert load_counted(engine) == [10, 30, 37]
    assert engine.done == [("remove", OLD.id)]


@pytest.mark.parametrize("fault", [EngineStalled("silent"), EngineUnavailable("gone")], ids=repr)
def test_after_a_stall_the_images_in_the_engine_decide(fault: LoaderError) -> None:
    engine = engine_with(LOADED, fault)
    load_counted(engine)
    assert engine.done == [("remove", OLD.id)]

    engine = engine_with({}, fault)
    with pytest.raises(type(fault)) as raised:
        load_counted(engine)
    assert raised.value is fault
    assert engine.done == RESTORED


@pytest.mark.parametrize(
    "fault",
    [EngineRejected("no"), ArchiveCorrupt("changed"), ZeroDivisionError("a bug"), KeyboardInterrupt()],
    ids=repr,
)
def test_any_other_failure_restores_every_reference(fault: BaseException) -> None:
    engine = engine_with(LOADED, fault)
    with pytest.raises(type(fault)):
        load_counted(engine)
    assert engine.done == RESTORED


def test_images_that_are_not_in_the_manifest_are_removed_again() -> None:
    engine = engine_with({**LOADED, IMAGES[1].reference: OLD})
    with pytest.raises(ImageMismatch, match=IMAGES[1].reference):
        load_counted(engine)
    assert engine.done == RESTORED


@pytest.mark.parametrize(("fault", "tried"), [(EngineRejected("in use"), 3), (EngineUnavailable("gone"), 1)], ids=repr)
def test_an_error_during_tidying_is_only_logged(
    fault: LoaderError, tried: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is down is not called again for each image."""
    engine = engine_with({})
    engine.tidying_fails = fault
    with pytest.raises(ImageMismatch):
        load_counted(engine)
    assert engine.done == RESTORED[:tried]
    assert ["could not be tidied up" in message for message in caplog.messages] == [True] * tried


MANIFEST = Manifest(IMAGES[:1], 1000, "0" * 16, "2026-01-02T03:04:05Z")


def test_a_remembered_manifest_can_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    assert remembered_images(directory) == ()
    remember_manifest(directory, MANIFEST)
    assert remembered_images(directory) == MANIFEST.images
    assert [path.name for path in directory.iterdir()] == [REMEMBERED_NAME]
    assert stat.S_IMODE((directory / REMEMBERED_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"images": []}', b"\xff", b"[" * 100_000], ids=len)
def test_an_unusable_remembered_manifest_causes_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / REMEMBERED_NAME).write_bytes(content)
    assert remembered_images(tmp_path) == ()
    assert [str(tmp_path / REMEMBERED_NAME) in message for message in caplog.messages] == [True]


def test_a_manifest_that_cannot_be_written_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / REMEMBERED_NAME).mkdir()
    remember_manifest(tmp_path, MANIFEST)
    assert ["could not be remembered" in message for message in caplog.messages] == [True]
    assert [path.name for path in tmp_path.iterdir()] == [REMEMBERED_NAME]


def test_only_the_unfinished_manifest_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    remember_manifest(tmp_path, MANIFEST)
    (tmp_path / f".{REMEMBERED_NAME}.k1ll3d__").write_bytes(b"{")
    (tmp_path / ".upload-other").write_bytes(b"x")
    remove_unfinished_manifest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-other", REMEMBERED_NAME]
    remove_unfinished_manifest(tmp_path / "absent")
