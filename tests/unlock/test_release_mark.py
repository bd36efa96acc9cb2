"""The mark of the newest release: what it accepts, what raises it, and what happens if its file is damaged or gone."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from loader.crypto.archive_head import Release, StoredHead
from loader.errors import Rollback, StorageError
from loader.unlock import release_mark
from loader.unlock.release_mark import (
    MARK_LIMIT,
    MARK_NAME,
    MINIMUM_HINT,
    KnownRelease,
    ReleaseMark,
    note_ready,
    remove_unfinished_mark,
    require_minimum,
)
from loader.unlock.remembered import NOTHING, Remembered, remember
from tests.support.loader_server import REPOSITORY
from tests.unlock.images.controlled_engine import HEAD

CREATED = "2026-01-02T03:04:05Z"


def known(serial: int, head: str = "a") -> KnownRelease:
    return KnownRelease("1.4", serial, CREATED, head * 64)


NEWEST = known(5)
MARK = ReleaseMark(NEWEST)
OLDER, TWIN, SAME, HIGHER = known(4, "b"), known(5, "c"), known(5), known(6, "d")


@pytest.mark.parametrize("release", [OLDER, TWIN], ids=["lower", "equal, another head"])
def test_an_older_release_is_refused_and_both_are_named(release: KnownRelease) -> None:
    assert MARK.newer_than(release) == NEWEST
    with pytest.raises(Rollback) as raised:
        MARK.require_not_older(release, None)
    assert release.text in str(raised.value)
    assert NEWEST.text in str(raised.value)
    assert release.text == f"release 1.4 (serial {release.serial}, made {CREATED})"


@pytest.mark.parametrize("release", [SAME, HIGHER], ids=["equal", "higher"])
def test_the_newest_release_and_later_ones_are_accepted(release: KnownRelease) -> None:
    assert MARK.newer_than(release) is None
    MARK.require_not_older(release, None)


@pytest.mark.parametrize("release", [OLDER, TWIN, SAME, HIGHER, known(0)])
def test_a_device_without_a_mark_accepts_every_release(release: KnownRelease) -> None:
    ReleaseMark().require_not_older(release, None)


def test_only_the_head_that_was_named_is_permitted() -> None:
    MARK.require_not_older(OLDER, OLDER.head)
    for allowed in (None, "", TWIN.head, NEWEST.head, OLDER.head.upper(), OLDER.head[:-1]):
        with pytest.raises(Rollback):
            MARK.require_not_older(OLDER, allowed)


@pytest.mark.parametrize("release", [OLDER, TWIN], ids=["lower", "equal, another head"])
@pytest.mark.parametrize("proven", [True, False])
def test_a_permitted_release_stays_permitted_and_the_newest_stays_the_newest(
    release: KnownRelease, proven: bool
) -> None:
    back = MARK.after(release, proven=proven)
    assert back == ReleaseMark(NEWEST, release.head)
    back.require_not_older(release, None)
    for other in (known(4, "e"), known(3, "e")):
        with pytest.raises(Rollback):
            back.require_not_older(other, None)


@pytest.mark.parametrize("release", [SAME, HIGHER], ids=["equal", "higher"])
def test_the_permission_ends_once_the_newest_or_a_later_release_is_proven(release: KnownRelease) -> None:
    back = MARK.after(OLDER, proven=True)
    forward = back.after(release, proven=True)
    assert forward == ReleaseMark(release)
    with pytest.raises(Rollback):
        forward.require_not_older(OLDER, None)
    assert back.after(release, proven=False) == back


@pytest.mark.parametrize("mark", [ReleaseMark(), MARK], ids=["no mark", "a mark"])
def test_what_is_not_proven_never_raises_the_mark(mark: ReleaseMark) -> None:
    assert mark.after(HIGHER, proven=False) == mark
    assert mark.after(HIGHER, proven=True) == ReleaseMark(HIGHER)


def test_the_api_may_permit_a_serial_that_is_not_below_its_minimum() -> None:
    release = Release("1.4", 5, CREATED)
    for minimum in (0, 4, 5):
        require_minimum(release, minimum)
    with pytest.raises(Rollback, match=r"\(serial 5, made .*no serial below 6") as raised:
        require_minimum(release, 6)
    assert raised.value.hint == MINIMUM_HINT


def test_a_mark_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    note_ready(directory, ReleaseMark(), NEWEST, proven=True)
    assert ReleaseMark.read(directory, NOTHING) == MARK
    note_ready(directory, MARK, OLDER, proven=True)
    assert ReleaseMark.read(directory, NOTHING) == ReleaseMark(NEWEST, OLDER.head)
    assert [path.name for path in directory.iterdir()] == [MARK_NAME]
    assert stat.S_IMODE((directory / MARK_NAME).stat().st_mode) == 0o600
    assert (directory / MARK_NAME).stat().st_size < MARK_LIMIT


def test_a_mark_that_says_it_already_is_not_written_again(tmp_path: Path) -> None:
    note_ready(tmp_path, MARK, OLDER, proven=True)
    (tmp_path / MARK_NAME).chmod(0o640)
    for release, proven in ((OLDER, True), (OLDER, False), (HIGHER, False)):
        note_ready(tmp_path, ReleaseMark.read(tmp_path, NOTHING), release, proven=proven)
    assert stat.S_IMODE((tmp_path / MARK_NAME).stat().st_mode) == 0o640
    note_ready(tmp_path / "absent", ReleaseMark(), HIGHER, proven=False)
    assert not (tmp_path / "absent").exists()


def outer(body: str) -> bytes:
    return json.dumps({"mark": body, "sha256": sha256(body.encode()).hexdigest()}).encode()


SOUND = json.loads(json.loads(MARK.to_bytes())["mark"])
DAMAGED = {
    "empty": b"",
    "cut": MARK.to_bytes()[:-9],
    "no JSON": b"\xff",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "long": b" " * (MARK_LIMIT + 1),
    "a changed digit": MARK.to_bytes().replace(b'serial\\": 5', b'serial\\": 4'),
    "no mark": b"{}",
    "a mark that is no text": b'{"mark": 5, "sha256": ""}',
    "a surrogate": b'{"mark": "\\ud800", "sha256": ""}',
    "an inner list": outer("[]"),
    "no inner JSON": outer("{"),
    "no newest": outer(json.dumps(SOUND | {"newest": None})),
    "a serial below zero": outer(json.dumps(SOUND | {"newest": SOUND["newest"] | {"serial": -1}})),
    "a serial of 2^53": outer(json.dumps(SOUND | {"newest": SOUND["newest"] | {"serial": 1 << 53}})),
    "a serial that is true": outer(json.dumps(SOUND | {"newest": SOUND["newest"] | {"serial": True}})),
    "no head": outer(json.dumps(SOUND | {"newest": {key: SOUND["newest"][key] for key in ("version", "serial")}})),
    "a short head": outer(json.dumps(SOUND | {"newest": SOUND["newest"] | {"head": "ab"}})),
    "a permission for anything": outer(json.dumps(SOUND | {"permitted": True})),
    "a field of another program": outer(json.dumps(SOUND | {"format": 2})),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_mark_causes_a_warning_and_the_last_unlock_counts(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / MARK_NAME).write_bytes(content)
    assert ReleaseMark.read(tmp_path, NOTHING) == ReleaseMark()
    assert [str(tmp_path / MARK_NAME) in message for message in caplog.messages] == [True]
    head = StoredHead.of(HEAD)
    remember(tmp_path, head)
    mark = ReleaseMark.read(tmp_path, Remembered.read(tmp_path))
    assert mark == ReleaseMark(KnownRelease.of(head))

    # The next release that becomes ready mends it.
    note_ready(tmp_path, mark, KnownRelease.of(head), proven=True)
    caplog.clear()
    assert ReleaseMark.read(tmp_path, NOTHING) == mark
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_file_is_a_damaged_mark(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / MARK_NAME
    (tmp_path / "other").write_bytes(MARK.to_bytes())
    make: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "link": lambda: path.symlink_to("other"),
        "pipe": lambda: os.mkfifo(path),
    }
    make[kind]()
    assert ReleaseMark.read(tmp_path, NOTHING) == ReleaseMark()
    assert len(caplog.messages) == 1


def test_a_disk_that_has_lost_the_mark_does_not_stop_the_device_and_one_that_denies_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults are fakes, because root may read every file, and disks here are sound."""

    def fail(number: int) -> None:
        def read(path: Path, _: int) -> bytes:
            raise OSError(number, "a reason", str(path))

        monkeypatch.setattr(release_mark, "read_small", read)

    fail(errno.EIO)
    assert ReleaseMark.read(tmp_path, NOTHING) == ReleaseMark()
    fail(errno.EACCES)
    with pytest.raises(StorageError, match="cannot be used: a reason"):
        ReleaseMark.read(tmp_path, NOTHING)


def test_the_last_unlock_counts_if_it_is_newer_than_the_mark(tmp_path: Path) -> None:
    """As on a device whose mark was erased or could not be written, or that is older than the mark."""
    head = StoredHead.of(replace(HEAD, release=Release("1.4", 5, CREATED)))
    remember(tmp_path, head)
    last, remembered = KnownRelease.of(head), Remembered.read(tmp_path)
    assert ReleaseMark.read(tmp_path, remembered) == ReleaseMark(last)
    for stored, read in (
        (ReleaseMark(known(4), "f" * 64), ReleaseMark(last)),
        (ReleaseMark(known(5), "f" * 64), ReleaseMark(known(5), "f" * 64)),
        (ReleaseMark(known(6), last.head), ReleaseMark(known(6), last.head)),
    ):
        (tmp_path / MARK_NAME).write_bytes(stored.to_bytes())
        assert ReleaseMark.read(tmp_path, remembered) == read


def test_the_last_unlock_is_accepted_though_the_mark_is_newer(tmp_path: Path) -> None:
    """As after a way back whose mark could not be written, or that was made without an unlock."""
    head = StoredHead.of(replace(HEAD, release=Release("1.4", 4, CREATED)))
    remember(tmp_path, head)
    (tmp_path / MARK_NAME).write_bytes(MARK.to_bytes())
    mark = ReleaseMark.read(tmp_path, Remembered.read(tmp_path))
    assert mark == MARK
    mark.require_not_older(KnownRelease.of(head), None)
    with pytest.raises(Rollback):
        mark.require_not_older(OLDER, None)


def test_a_mark_that_cannot_be_written_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / MARK_NAME).mkdir()
    note_ready(tmp_path, ReleaseMark(), NEWEST, proven=True)
    assert ["could not be noted" in message for message in caplog.messages] == [True]


def test_only_the_unfinished_mark_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    note_ready(tmp_path, ReleaseMark(), NEWEST, proven=True)
    (tmp_path / f".{MARK_NAME}.k1ll3d__").write_bytes(b"{")
    (tmp_path / ".upload-other").write_bytes(b"x")
    remove_unfinished_mark(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-other", MARK_NAME]
    remove_unfinished_mark(tmp_path / "absent")


def test_after_a_kill_at_any_step_the_mark_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """The head is remembered first, and counts from then on."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unlock.killed_marks", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    assert list(dict.fromkeys(states)) == ["old old", "old new", "new new"]
