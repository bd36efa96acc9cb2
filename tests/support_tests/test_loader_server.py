"""The loader of the tests runs under gunicorn with one worker, which ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.http_probe import http_status
from tests.support.processes import ProcessEnded
from tests.support.procfs import is_running


def test_the_loader_starts_logs_json_lines_and_stops_with_its_worker(start_loader: StartLoader) -> None:
    loader = start_loader()
    worker = loader.worker_pid
    assert http_status(loader.url, "/status") == 200
    assert loader.log_lines()
    assert loader.stop() == 0
    assert not is_running(worker)


def test_the_loader_listens_on_a_unix_socket(start_loader: StartLoader, tmp_path: Path) -> None:
    loader = start_loader(LOADER_BIND=f"unix:{tmp_path}/loader.sock")
    assert http_status(f"unix:{tmp_path}/loader.sock", "/status") == 200
    assert loader.url == f"unix:{tmp_path}/loader.sock"


def test_a_loader_that_does_not_start_fails_the_test_with_its_error(start_loader: StartLoader) -> None:
    with pytest.raises(ProcessEnded, match="LOG_LEVEL"):
        start_loader(LOG_LEVEL="chatty")
