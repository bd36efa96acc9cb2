"""The file of the journal: read as it was written, removed if it is damaged, and kept if it cannot be read now."""

from __future__ import annotations

import errno
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.errors import StorageError
from loader.unlock.journal import JOURNAL_LIMIT, Former, Journal, JournalFile
from tests.support.processes import poll
from tests.unlock.rollback.device import WAIT_SECONDS, Device
from tests.unlock.rollback.engine_of_names import REFERENCES, engine_with, image_id

ids = st.integers(0, 1 << 200).map(image_id)
formers = st.lists(
    st.builds(
        Former, st.sampled_from(REFERENCES), st.none() | ids, *[st.frozensets(ids, max_size=3)] * 2, st.booleans()
    ),
    unique_by=lambda each: each.reference,
).map(tuple)
journals = st.builds(Journal, formers, st.floats(0, 1e9))
ENTRY: dict[str, Any] = {"former": None, "new": [image_id(8)], "absent": [], "proven": False}
WHOLE: dict[str, Any] = {"run": "a", "watch_seconds": 1.5, "references": {REFERENCES[0]: ENTRY}}


@given(journals)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, journal: Journal) -> None:
    file = JournalFile(tmp_path_factory.mktemp("journal") / "made")
    assert file.read() is None
    file.write(journal)
    assert file.read() == journal
    file.remove()
    assert file.read() is None


def changed(**fields: object) -> bytes:
    return json.dumps({**WHOLE, **fields}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        *(json.dumps({name: value for name, value in WHOLE.items() if name != left}).encode() for left in WHOLE),
        changed(run=5),
        *(changed(watch_seconds=value) for value in ("1", None, True, -1, float("nan"), float("inf"))),
        changed(references=[]),
        changed(references={"../containers": ENTRY}),
        changed(references={REFERENCES[0]: None}),
        changed(references={REFERENCES[0]: image_id(1)}),
        *(changed(references={REFERENCES[0]: {**ENTRY, "proven": value}}) for value in (None, 1, "true")),
        *(changed(references={REFERENCES[0]: {**ENTRY, "former": value}}) for value in ("x", 5, "sha256:")),
        *(changed(references={REFERENCES[0]: {**ENTRY, "new": value}}) for value in (None, 5, ["x"], [None])),
        b"[" * 100_000,
        b" " * (JOURNAL_LIMIT + 1),
    ],
    ids=lambda data: data[:60],
)
def test_a_journal_that_cannot_be_used_is_told_and_removed(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(engine_with([image_id(1), None, None]), tmp_path)
    device.journal.write_bytes(data)
    before = device.engine.inventory()
    with caplog.at_level(logging.WARNING):
        device.recover()
    assert any("cannot be used" in message for message in caplog.messages)
    assert device.engine.inventory() == before
    assert not device.journal.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOMEM], ids=errno.errorcode.get)
def test_a_journal_that_cannot_be_read_now_stays(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake, because no disk fails on request in each of these ways."""
    device = Device(engine_with([image_id(1), None, None], forgets=True), tmp_path)
    before = device.engine.inventory()
    device.kill([(REFERENCES[0], image_id(8))])

    def fail(*_: object) -> bytes:
        raise OSError(number, "a passing fault")

    with monkeypatch.context() as patch:
        patch.setattr("loader.unlock.journal.read_small", fail)
        with pytest.raises(StorageError, match="a passing fault"):
            device.recover()
        with pytest.raises(StorageError), device.guarded():
            raise AssertionError("the block must not run")
        device.rollback.recover_in_background()
    device.wait()
    assert device.engine.inventory() == before


def test_a_directory_in_its_place_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = Device(engine_with([None, None, None]), tmp_path)
    device.journal.mkdir()
    before = threading.active_count()
    device.rollback.recover_in_background()
    poll(lambda: threading.active_count() <= before, WAIT_SECONDS, "the thread has ended")
    assert ["cannot be used" in message for message in caplog.messages] == [True]
    with pytest.raises(StorageError, match=str(device.journal)), device.guarded():
        raise AssertionError("the block must not run")


def test_what_a_kill_has_left_of_a_journal_goes_at_the_next_start(tmp_path: Path) -> None:
    device = Device(engine_with([None, None, None]), tmp_path)
    device.journal.with_name(f".{device.journal.name}.k1ll3d__").write_bytes(b"{")
    device.rollback.recover_in_background()
    assert list(tmp_path.iterdir()) == []
