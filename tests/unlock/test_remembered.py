"""The head that the loader remembers after an unlock."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from loader.crypto.archive_head import StoredHead
from loader.errors import StorageError
from loader.unlock.remembered import (
    REMEMBERED_LIMIT,
    REMEMBERED_NAME,
    TELLING_SIZE,
    Pace,
    ProvenRelease,
    Remembered,
    remember,
    remove_unfinished_memory,
)
from loader.unlock.room import Work
from tests.unlock.images.controlled_engine import HEAD, handmade, head_with


def test_a_remembered_head_can_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    assert Remembered.read_if_sound(directory).images == ()
    remember(directory, StoredHead.of(HEAD))
    assert Remembered.read_if_sound(directory).images == HEAD.images
    assert [path.name for path in directory.iterdir()] == [REMEMBERED_NAME]
    assert stat.S_IMODE((directory / REMEMBERED_NAME).stat().st_mode) == 0o600


def test_all_names_of_an_image_are_remembered(tmp_path: Path) -> None:
    image = handmade(0)
    head = head_with(*(replace(image, reference=f"name:{number}") for number in range(200)))
    remember(tmp_path, StoredHead.of(head))
    assert Remembered.read_if_sound(tmp_path).images == head.images
    assert len(head.images) == 200


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b" " * (REMEMBERED_LIMIT + 1)),
        *(
            json.dumps({"head": head, "sha256": sha256(str(head).encode()).hexdigest()}).encode()
            for head in (None, 5, {"images": 5}, "", "[]", "null", "{}", '{"format": 1}')
        ),
    ],
    ids=len,
)
def test_an_unusable_remembered_head_causes_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / REMEMBERED_NAME).write_bytes(content)
    assert Remembered.read_if_sound(tmp_path).images == ()
    assert [str(tmp_path / REMEMBERED_NAME) in message for message in caplog.messages] == [True]


def test_a_changed_bit_of_the_remembered_head_is_noticed(tmp_path: Path) -> None:
    remember(tmp_path, StoredHead.of(HEAD))
    path = tmp_path / REMEMBERED_NAME
    data = path.read_bytes()
    assert b"app:1" in data
    path.write_bytes(data.replace(b"app:1", b"app:0", 1))
    with pytest.raises(StorageError, match="its head was changed"):
        Remembered.read(tmp_path)
    assert Remembered.read_if_sound(tmp_path).images == ()


def test_a_head_that_cannot_be_written_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / REMEMBERED_NAME).mkdir()
    remember(tmp_path, StoredHead.of(HEAD))
    assert ["could not be remembered" in message for message in caplog.messages] == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == [REMEMBERED_NAME]


def test_only_the_unfinished_head_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    remember(tmp_path, StoredHead.of(HEAD))
    (tmp_path / f".{REMEMBERED_NAME}.k1ll3d__").write_bytes(b"{")
    (tmp_path / ".upload-other").write_bytes(b"x")
    remove_unfinished_memory(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-other", REMEMBERED_NAME]
    remove_unfinished_memory(tmp_path / "absent")


WORK = Work(TELLING_SIZE // 2, TELLING_SIZE, largest=TELLING_SIZE, to_unpack=TELLING_SIZE, journal=0)
SECONDS = {"authenticating": 1.0, "downloading_key": 0.5, "decrypting": 4.0, "loading_images": 8.0}


def test_another_unlock_takes_as_long_for_each_byte() -> None:
    pace = Pace.measured("stream", WORK, SECONDS)
    assert pace is not None
    assert pace.seconds(WORK) == pytest.approx(13.5)
    half = replace(WORK, to_read=WORK.to_read // 2, to_send=WORK.to_send // 2)
    assert pace.seconds(half) == pytest.approx(7.5)


def test_a_small_unlock_tells_nothing_about_larger_ones() -> None:
    assert Pace.measured("stream", replace(WORK, to_send=TELLING_SIZE - 1), SECONDS) is None


def test_the_pace_is_remembered_with_the_head(tmp_path: Path) -> None:
    pace = Pace.measured("tar", WORK, SECONDS)
    remember(tmp_path, StoredHead.of(HEAD), pace)
    remembered = Remembered.read(tmp_path)
    assert remembered.pace == pace
    assert remembered.is_head(StoredHead.of(HEAD))
    assert not remembered.is_head(StoredHead.of(replace(HEAD, release=replace(HEAD.release, serial=99))))


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 5},
        *({"login": value} for value in (None, "1", 1, True, -1.0, float("nan"), float("inf"), 1e308)),
        {"load": [1.0]},
    ],
    ids=str,
)
def test_a_pace_that_is_none_leaves_the_images(tmp_path: Path, change: dict[str, object]) -> None:
    remember(tmp_path, StoredHead.of(HEAD), Pace("tar", 1.0, 2.0, 3.0))
    path = tmp_path / REMEMBERED_NAME
    document = json.loads(path.read_text())
    document["pace"] |= change
    path.write_text(json.dumps(document))
    assert Remembered.read(tmp_path) == Remembered(ProvenRelease.of(StoredHead.of(HEAD)))


@pytest.mark.parametrize("pace", [None, 5, [], {}, {"mode": "tar"}], ids=str)
def test_a_malformed_pace_leaves_the_images(tmp_path: Path, pace: object) -> None:
    raw = StoredHead.of(HEAD).raw[4:].decode()
    (tmp_path / REMEMBERED_NAME).write_text(
        json.dumps({"head": raw, "sha256": sha256(raw.encode()).hexdigest(), "pace": pace})
    )
    assert Remembered.read(tmp_path) == Remembered(ProvenRelease(raw.encode(), HEAD))
