"""Starting a fetch in this process, without an API."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from loader.fetch import run
from loader.fetch.run import start_fetch
from loader.fetch.state import FetchState, _FetchStateHolder
from loader.settings import Settings
from tests.support.processes import poll


class LoggedIn:
    """In the place of the client: somebody has logged in."""

    def checkpoint(self) -> None:
        """Permit everything."""


def test_a_system_without_a_thread_for_the_run_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"IMAGES_PATH": str(tmp_path / "images.enc"), "MODEL_CACHE_DIR": str(tmp_path)})
    holder = _FetchStateHolder()
    monkeypatch.setattr(run, "_fetch", holder)
    monkeypatch.setattr(run, "get_api_client", LoggedIn)
    monkeypatch.setattr(run, "run_fetch", lambda _: None)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        record = start_fetch(settings, "1", lambda: None).record
    assert (record.state, record.failure is not None and record.failure.code) == (FetchState.ERROR, "INTERNAL")
    start_fetch(settings, "1", lambda: None)
    poll(lambda: holder.record.state is FetchState.FETCHED, 10, "the second fetch ends")
