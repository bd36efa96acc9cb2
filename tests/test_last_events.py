"""The file of the last login, unlock and fetch: small, atomic, without secrets, and never in the way."""

from __future__ import annotations

import json
import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loader import last_events as module
from loader.errors import ApiUnreachable, LoaderError, LoginRejected, LoginThrottled
from loader.last_events import EVENTS, MAX_SIZE, MAX_TEXT, NAME, LastEvent, last_events, login_audited, note
from tests.support.small_disk import fill, small_disk

LINE: dict[str, Any] = {
    "event": "unlock",
    "outcome": "failed",
    "code": "DISK_SPACE",
    "reason": "No room.",
    "user": "a@example.com",
    "client": "192.0.2.7",
    "file": "/opt/images.enc",
    "version": "1.4",
    "bytes": 5,
    "seconds": 1.5,
    "request_id": "r-1",
}
NOTHING = dict.fromkeys(EVENTS)
MIB = 1 << 20


def last_of(directory: Path, event: str = "unlock") -> LastEvent:
    last = last_events(directory)[event]
    assert last is not None
    return last


def test_an_event_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert last_events(tmp_path) == NOTHING
    note(tmp_path, LINE)
    last = last_of(tmp_path)
    assert last_events(tmp_path) == {**NOTHING, "unlock": last}
    assert (last.outcome, last.code, last.reason, last.user) == ("failed", "DISK_SPACE", "No room.", "a@example.com")
    assert (last.client, last.version, last.seconds, last.request_id) == ("192.0.2.7", "1.4", 1.5, "r-1")
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_each_event_has_its_own_place(tmp_path: Path) -> None:
    for event in EVENTS:
        note(tmp_path, {**LINE, "event": event, "version": event})
    assert [last.version for last in last_events(tmp_path).values() if last] == list(EVENTS)


def test_the_last_success_outlives_failures(tmp_path: Path) -> None:
    note(tmp_path, LINE)
    assert last_of(tmp_path).succeeded_at is None
    note(tmp_path, {**LINE, "outcome": "ok", "code": None})
    success = last_of(tmp_path)
    assert success.is_success
    for code in ("DISK_SPACE", "ENGINE_STALLED"):
        note(tmp_path, {**LINE, "code": code})
        last = last_of(tmp_path)
        assert (last.is_success, last.code) == (False, code)
        assert last.succeeded_at == success.at


def test_a_file_of_an_older_loader_has_no_last_success(tmp_path: Path) -> None:
    note(tmp_path, {**LINE, "outcome": "ok", "code": None})
    document = json.loads((tmp_path / NAME).read_bytes())
    del document["unlock"]["last_success"]
    (tmp_path / NAME).write_text(json.dumps(document))
    at = last_of(tmp_path).succeeded_at
    assert at is not None
    note(tmp_path, LINE)
    assert (last_of(tmp_path).outcome, last_of(tmp_path).succeeded_at) == ("failed", at)


def test_the_file_is_bounded(tmp_path: Path) -> None:
    names = ("outcome", "code", "reason", "user", "client", "version", "request_id")
    texts = dict.fromkeys(names, "\U0001f511" * 9999)
    for event in EVENTS:
        note(tmp_path, {**LINE, **texts, "event": event})
    assert (tmp_path / NAME).stat().st_size <= MAX_SIZE
    assert len(last_of(tmp_path, "fetch").reason or "") == MAX_TEXT


def test_the_same_again_is_not_written_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that tries again every second must not wear out the flash."""
    note(tmp_path, LINE)
    note(tmp_path, {**LINE, "seconds": 2.0, "request_id": "r-2"})
    assert last_of(tmp_path).request_id == "r-1"
    note(tmp_path, {**LINE, "reason": "Another.", "request_id": "r-3"})
    assert last_of(tmp_path).request_id == "r-3"
    monkeypatch.setattr(module, "SAME_SECONDS", 0)
    note(tmp_path, {**LINE, "reason": "Another.", "request_id": "r-4"})
    assert last_of(tmp_path).request_id == "r-4"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[" * 9999,
        b'{"unlock": 1}',
        b'{"unlock": {"at": "2026-01-01T00:00:00+00:00", "outcome": "ok"}}',
        b"x" * (MAX_SIZE + 1),
    ],
)
def test_a_damaged_file_tells_nothing_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert last_events(tmp_path) == NOTHING
    note(tmp_path, LINE)
    assert last_of(tmp_path).code == "DISK_SPACE"


@pytest.mark.parametrize(
    "changed",
    [
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
        {"outcome": None},
        {"seconds": "1"},
        {"user": 1},
        {"more": 1},
        {"last_success": 1},
        {"last_success": "x"},
    ],
)
def test_an_entry_of_another_form_tells_nothing(tmp_path: Path, changed: dict[str, Any]) -> None:
    note(tmp_path, LINE)
    document = json.loads((tmp_path / NAME).read_bytes())
    assert LastEvent.parse(document["unlock"]) is not None
    document["unlock"] |= changed
    (tmp_path / NAME).write_text(json.dumps(document))
    assert last_events(tmp_path) == NOTHING


def test_a_full_or_missing_disk_is_a_warning_and_keeps_what_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk, caplog.at_level(logging.WARNING):
        note(disk, LINE)
        fill(disk, leave=0)
        note(disk, {**LINE, "outcome": "ok"})
        assert last_of(disk).outcome == "failed"
        assert [path.name for path in disk.iterdir() if path.name.startswith(".")] == []
    note(tmp_path / "missing", LINE)
    assert len(caplog.messages) == 2
    assert not (tmp_path / "missing").exists()


def test_two_threads_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: note(tmp_path, {**LINE, "event": EVENTS[number % 3]}), range(48)))
    assert None not in last_events(tmp_path).values()


def log_in(directory: Path, email: str, error: LoaderError | None) -> None:
    """Make a login that ends with `error`, which must come out."""

    def attempt() -> None:
        with login_audited(directory, email):
            if error is not None:
                raise error

    if error is None:
        attempt()
    else:
        with pytest.raises(type(error)):
            attempt()


@pytest.mark.parametrize(
    ("error", "remembered"),
    [
        (None, "ok"),
        (LoginRejected("No."), "failed"),
        (ApiUnreachable("No way."), "failed"),
        # The API was not asked, and a client that is made to wait must not write to the disk again and again.
        (LoginThrottled("Wait.", 10), None),
    ],
)
def test_a_login_is_remembered_if_the_api_was_asked(
    tmp_path: Path, error: LoaderError | None, remembered: str | None
) -> None:
    log_in(tmp_path, "a@example.com", error)
    last = last_events(tmp_path)["login"]
    assert (last.outcome if last else None) == remembered


@pytest.mark.parametrize(
    ("email", "error", "told"),
    [
        ("a@example.com", LoginRejected("No."), "a@example.com"),
        ("a@b-1.example.com", LoginRejected("No."), "a@b-1.example.com"),
        ("a password in the wrong field", LoginRejected("No."), None),
        ("P@ssw0rd", LoginRejected("No."), None),
        ("p@ss.w@rd", LoginRejected("No."), None),
        ("p@ss.word!", LoginRejected("No."), None),
        ("device-7", None, "device-7"),
    ],
)
def test_a_password_in_the_wrong_field_is_not_told(
    tmp_path: Path, email: str, error: LoaderError | None, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        log_in(tmp_path, email, error)
    assert last_of(tmp_path, "login").user == told
    assert [vars(record)["user"] for record in caplog.records] == [told]
