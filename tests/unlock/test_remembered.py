"""The manifest of the last unlock."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from loader.crypto.archive import Manifest, ManifestImage
from loader.unlock.images import REMEMBERED_NAME, remember_manifest, remembered_images, remove_unfinished_manifest

DIGEST = "sha256:" + "1" * 64
IMAGE = ManifestImage("app:1.4", DIGEST, (DIGEST,), "2026-01-02T03:04:05Z")
MANIFEST = Manifest((IMAGE,), 1000, "0" * 16, "2026-01-02T03:04:05Z")


def test_what_is_remembered_is_known_again(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    assert remembered_images(directory) == ()
    remember_manifest(directory, MANIFEST)
    assert remembered_images(directory) == MANIFEST.images
    assert [path.name for path in directory.iterdir()] == [REMEMBERED_NAME]
    assert stat.S_IMODE((directory / REMEMBERED_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"images": []}', b"\xff", b"[" * 100_000], ids=len)
def test_what_cannot_be_used_is_warned_about(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / REMEMBERED_NAME).write_bytes(content)
    assert remembered_images(tmp_path) == ()
    assert [str(tmp_path / REMEMBERED_NAME) in message for message in caplog.messages] == [True]


def test_a_manifest_that_cannot_be_kept_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / REMEMBERED_NAME).mkdir()
    remember_manifest(tmp_path, MANIFEST)
    assert ["could not be remembered" in message for message in caplog.messages] == [True]
    assert [path.name for path in tmp_path.iterdir()] == [REMEMBERED_NAME]


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path: Path) -> None:
    remember_manifest(tmp_path, MANIFEST)
    (tmp_path / f".{REMEMBERED_NAME}.k1ll3d__").write_bytes(b"{")
    (tmp_path / ".upload-other").write_bytes(b"x")
    remove_unfinished_manifest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-other", REMEMBERED_NAME]
    remove_unfinished_manifest(tmp_path / "absent")
