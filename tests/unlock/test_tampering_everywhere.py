"""One changed bit in each byte of a small archive, one after the other; test_tampering.py changes each kind of byte."""

from __future__ import annotations

from pathlib import Path

from loader.crypto.archive_head import GZIP
from tests.support.archives import APP
from tests.support.flips import flipped
from tests.support.handmade_image import HandmadeImage, seal
from tests.unlock.watched_device import MODES, WatchedDevice

CODES = {"ARCHIVE_CORRUPT", "VERSION_MISMATCH", "KEY_MISMATCH"}


def test_a_change_of_any_byte_is_detected(watched: WatchedDevice, tmp_path: Path) -> None:
    archive = seal(tmp_path / "images.enc", [HandmadeImage(APP)], codec=GZIP).read_bytes()
    # Each mode gets every second byte, because the checks are the same ones in both.
    for position in range(MODES.index(watched.mode), len(archive), len(MODES)):
        watched.assert_refused(flipped(archive, position), CODES, position)
