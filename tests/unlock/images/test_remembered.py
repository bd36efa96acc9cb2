"""The head that the loader remembers after an unlock."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.archive_head import StoredHead
from loader.unlock.images import REMEMBERED_NAME, remember_head, remembered_images, remove_unfinished_head
from tests.unlock.images.controlled_engine import HEAD, handmade, head_with


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
