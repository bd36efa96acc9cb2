"""The accepted editions: remembered over a restart, never replaced by older ones, bounded, and lost without harm."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader import accepted_models
from loader.accepted_models import NAME, AcceptedModels, Mark

CREATED = "2026-03-01T12:00:00Z"


def mark(serial: int, content: str = "0a" * 32) -> Mark:
    return Mark(serial, CREATED, content)


def test_the_newest_edition_stays_over_a_restart(tmp_path: Path) -> None:
    marks = AcceptedModels(tmp_path / "models")
    assert marks.find("m/x") is None
    marks.accept("m/x", mark(7))
    marks.accept("m/y", mark(1))
    for again in (marks, AcceptedModels(tmp_path / "models")):
        assert (again.find("m/x"), again.find("m/y"), again.find("x")) == (mark(7), mark(1), None)
    file = tmp_path / "models" / NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [NAME]


def test_an_older_edition_or_another_one_of_the_same_serial_changes_nothing(tmp_path: Path) -> None:
    marks = AcceptedModels(tmp_path)
    marks.accept("m/x", mark(7))
    before = (tmp_path / NAME).stat()
    marks.accept("m/x", mark(6))
    marks.accept("m/x", mark(7, "0b" * 32))
    assert marks.find("m/x") == mark(7)
    after = (tmp_path / NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_threads_leave_the_newest_edition(tmp_path: Path) -> None:
    marks = AcceptedModels(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda serial: marks.accept("m/x", mark(serial)), [5, 3, 9, 1, 7, 2, 8, 4]))
    assert AcceptedModels(tmp_path).find("m/x") == mark(9)


def test_the_name_that_was_accepted_first_is_forgotten_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepted_models, "MAX_MODELS", 3)
    marks = AcceptedModels(tmp_path)
    for serial, path in enumerate("abacd"):
        marks.accept(path, mark(serial))
    assert [path for path in "abcd" if AcceptedModels(tmp_path).find(path)] == ["a", "c", "d"]


def test_as_many_models_with_the_longest_names_as_there_may_be_are_read_back() -> None:
    entry = json.dumps({"f" * (858 + 1 + 128): {"serial": 2**53 - 1, "created": CREATED, "content": "0a" * 32}})
    assert len(entry) * accepted_models.MAX_MODELS < accepted_models.MAX_FILE_SIZE


WRONG = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "not UTF-8": b"\xff",
    "deep": b"[" * 100_000,
    "another field": b'{"models": {}, "x": 1}',
    "no models": b"{}",
    "models in a list": b'{"models": []}',
    "a mark that is none": b'{"models": {"m/x": 1}}',
    "a negative serial": json.dumps({"models": {"m/x": {"serial": -1, "created": CREATED, "content": "0a" * 32}}}),
    "no time": json.dumps({"models": {"m/x": {"serial": 1, "created": "now", "content": "0a" * 32}}}),
    "no digest": json.dumps({"models": {"m/x": {"serial": 1, "created": CREATED, "content": ""}}}),
    "a field too few": json.dumps({"models": {"m/x": {"serial": 1, "created": CREATED}}}),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_has_no_marks_and_is_replaced(
    tmp_path: Path, data: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(data if isinstance(data, bytes) else data.encode())
    marks = AcceptedModels(tmp_path)
    assert marks.find("m/x") is None
    assert "an older edition of a model may be accepted" in caplog.text
    marks.accept("m/x", mark(7))
    assert AcceptedModels(tmp_path).find("m/x") == mark(7)


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_is_no_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    AcceptedModels(tmp_path / "other").accept("m/x", mark(7))
    if kind == "link":
        (tmp_path / NAME).symlink_to(tmp_path / "other" / NAME)
    else:
        (tmp_path / NAME).mkdir()
    assert AcceptedModels(tmp_path).find("m/x") is None


def test_a_disk_that_takes_no_file_is_a_warning_and_the_edition_counts_until_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        marks = AcceptedModels(tmp_path / "file" / "models")
        marks.accept("m/x", mark(7))
    assert "the accepted edition of m/x is not remembered on the disk" in caplog.text
    assert marks.find("m/x") == mark(7)
