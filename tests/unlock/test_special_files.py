"""Pipes, devices, links and other things that are no files, where an unlock has its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.binary_split import open_archive
from loader.errors import StorageError
from loader.unlock.delivery import TarDelivery
from loader.unlock.journal import JOURNAL_NAME
from loader.unlock.layers import layouts_of
from loader.unlock.remembered import REMEMBERED_NAME, Remembered, remember
from loader.unlock.rollback import Rollback
from tests.support.handmade_image import FRAGMENT, HandmadeImage, seal
from tests.support.http_calls import call
from tests.support.sites import NO_ENGINE
from tests.support.special_files import SECRET, SPECIAL_FILES, secret_beside
from tests.support.unlocking import Status, UnlockDevice
from tests.unlock.rollback.engine_of_names import EngineOfNames, image_id

pytest_plugins = ("tests.support.unlock_fixtures",)
pytestmark = pytest.mark.timeout(60)  # a pipe that is opened in the usual way waits for its other end, forever

APP = HandmadeImage("app:1.4")
NO_FILE = ("pipe", "socket", "device", "link to a pipe", "link to a device")


@pytest.mark.parametrize("kind", NO_FILE)
def test_what_is_no_file_in_the_place_of_the_archive_stops_nothing(unlock_device: UnlockDevice, kind: str) -> None:
    """Forty plans are more than the loader has threads."""
    operator = unlock_device.start(NO_ENGINE)
    SPECIAL_FILES[kind](unlock_device.archive)
    for _ in range(40):
        call(operator.loader.url, "GET", "/unlock/plan").problem(500, "ARCHIVE_CORRUPT")
    sentence = f"The archive {unlock_device.archive} is damaged: it is not a regular file."
    assert operator.unlock() == Status("error", sentence, "ARCHIVE_CORRUPT")
    assert operator.get("/status")["status"] == "healthy"


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_the_remembered_head_is_read_from_a_file_only_and_replaces_anything(tmp_path: Path, kind: str) -> None:
    place = tmp_path / REMEMBERED_NAME
    SPECIAL_FILES[kind](place)
    assert Remembered.read_if_sound(tmp_path).images == ()
    with open_archive(seal(tmp_path / "images.enc", [APP])) as archive:
        remember(tmp_path, archive.index.stored)
        assert Remembered.read_if_sound(tmp_path).images == archive.head.images
    assert place.is_file()
    assert not place.is_symlink()
    if kind == "link to a secret":
        assert secret_beside(place).read_bytes() == SECRET


def test_a_remembered_head_that_is_too_large_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / REMEMBERED_NAME).open("wb") as file:
        file.truncate(1 << 40)
    assert Remembered.read_if_sound(tmp_path).images == ()
    assert "cannot be used" in caplog.text


def test_a_directory_in_the_place_of_the_remembered_head_undoes_no_unlock(tmp_path: Path) -> None:
    (tmp_path / REMEMBERED_NAME).mkdir()
    with open_archive(seal(tmp_path / "images.enc", [APP])) as archive:
        remember(tmp_path, archive.index.stored)
    assert Remembered.read_if_sound(tmp_path).images == ()


@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_what_is_no_file_in_the_place_of_the_journal_restores_nothing(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / JOURNAL_NAME
    SPECIAL_FILES[kind](place)
    engine = EngineOfNames({APP.image.reference: image_id(1)}, False, frozenset())
    Rollback(engine, tmp_path).recover(lambda: None)
    assert "cannot be used, so that nothing is undone" in caplog.text
    assert not place.is_symlink()
    assert not place.exists()
    if kind == "link to a secret":
        assert secret_beside(place).read_bytes() == SECRET


@pytest.mark.parametrize("kind", SPECIAL_FILES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_plaintext_goes_into_what_stands_in_the_place_of_the_tar(tmp_path: Path, kind: str, when: str) -> None:
    """What was there before the unlock is removed as a leftover; what comes before the first byte ends the unlock."""
    tar = tmp_path / "images.tar"
    with open_archive(seal(tmp_path / "images.enc", [APP])) as archive:
        if when == "before":
            SPECIAL_FILES[kind](tar)
        delivery = TarDelivery(archive, tuple(layouts_of(archive.head, set())), tar, lambda: None)
        if when == "before":
            delivery.prepare(FRAGMENT, lambda _: None)
            assert tar.is_file()
            assert not tar.is_symlink()
        else:
            SPECIAL_FILES[kind](tar)
            with pytest.raises(StorageError, match="File exists"):
                delivery.prepare(FRAGMENT, lambda _: None)
        delivery.close()
    assert not (tmp_path / "nowhere").exists()
    if kind == "link to a secret":
        assert secret_beside(tar).read_bytes() == SECRET
