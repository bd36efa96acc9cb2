"""One loader at a time works in a directory, in one process, whatever starts it and whatever signal it gets."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.http_calls import call, login
from tests.support.http_probe import http_status
from tests.support.loader_server import LoaderServer, run_python
from tests.support.processes import free_port, poll
from tests.support.procfs import children
from tests.support.sites import FaultySite, faulty_site

SECONDS = 20.0
STARTS = {
    "gunicorn": (["-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"], 1),
    "serve": (["-m", "loader", "serve"], 1),
    "another server": (["-c", "import loader.server.wsgi"], 3),
}


def ended(directory: Path, start: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a loader that is expected to end by itself."""
    return run_python(directory, *STARTS[start][0], **{"LOADER_BIND": f"127.0.0.1:{free_port()}", **env})


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line with which it ended, beside the lines of gunicorn's log."""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return line


@pytest.mark.parametrize("start", STARTS)
def test_a_second_loader_ends_before_it_touches_anything(
    start_loader: StartLoader, device_dir: Path, tmp_path: Path, start: str
) -> None:
    """The first one may be in the middle of an unlock, with a tar and unfinished files."""
    bind = f"unix:{tmp_path}/loader.sock"
    first = start_loader(LOADER_BIND=bind)
    for name in ("images.tar", "models/.upload-1", "models/remembered"):
        (device_dir / name).write_bytes(b"x")
    before = sorted(device_dir.rglob("*"))
    shared = {"LOADER_BIND": bind, "IMAGES_PATH": f"{device_dir}/images.enc", "MODEL_CACHE_DIR": f"{device_dir}/models"}
    second = ended(tmp_path, start, shared)
    assert second.returncode == STARTS[start][1]
    assert one_line(second) == f"azaion-loader: another loader works in {device_dir}/models; stop it first"
    assert sorted(device_dir.rglob("*")) == before
    assert http_status(first.url, "/health") == 200


def test_one_of_the_two_directories_is_enough(start_loader: StartLoader, device_dir: Path, tmp_path: Path) -> None:
    start_loader()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(device_dir)
    own = {"IMAGES_PATH": f"{tmp_path}/other/images.enc", "MODEL_CACHE_DIR": f"{tmp_path}/other/models"}
    for shared, place in (
        ({"IMAGES_PATH": f"{device_dir}/other.enc"}, device_dir),
        ({"IMAGES_PATH": f"{tmp_path}/link/images.enc"}, tmp_path / "link"),
        ({"MODEL_CACHE_DIR": f"{tmp_path}/link/models"}, tmp_path / "link/models"),
    ):
        assert one_line(ended(tmp_path, "gunicorn", own | shared)).endswith(f"works in {place}; stop it first")


def test_loaders_in_different_directories_do_not_disturb_each_other(start_loader: StartLoader, tmp_path: Path) -> None:
    first = start_loader()
    second = start_loader(IMAGES_PATH=f"{tmp_path}/2/images.enc", MODEL_CACHE_DIR=f"{tmp_path}/2/models")
    assert [http_status(each.url, "/health") for each in (first, second)] == [200, 200]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_after_its_end_the_next_loader_starts(start_loader: StartLoader, number: signal.Signals) -> None:
    first = start_loader()
    first.process.send_signal(number)
    first.process.wait(SECONDS)
    start_loader()


def test_after_a_kill_of_the_master_the_next_loader_starts_when_the_worker_has_ended(start_loader: StartLoader) -> None:
    first = start_loader()
    worker = first.worker_pid
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(SECONDS)
    poll(lambda: not Path(f"/proc/{worker}").exists(), SECONDS, "the worker has ended")
    start_loader()


def test_the_next_worker_may_use_the_directories(start_loader: StartLoader) -> None:
    loader = start_loader()
    os.kill(loader.worker_pid, signal.SIGKILL)
    poll(lambda: http_status(loader.url, "/status") == 200, SECONDS, "the next worker answers")


def test_a_directory_that_cannot_be_locked_is_a_warning(start_loader: StartLoader, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loader = start_loader(IMAGES_PATH=f"{tmp_path}/file/images.enc")
    warnings = [line["message"] for line in loader.log_lines() if line["level"] == "WARNING"]
    assert any(f"{tmp_path}/file cannot be locked" in message for message in warnings)


def test_a_loader_whose_directories_are_missing_starts(start_loader: StartLoader, tmp_path: Path) -> None:
    loader = start_loader(IMAGES_PATH=f"{tmp_path}/no/images.enc", MODEL_CACHE_DIR=f"{tmp_path}/new/models")
    assert http_status(loader.url, "/health") == 200
    assert (tmp_path / "new" / "models").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def logged_in(tmp_path: Path) -> Iterator[FaultySite]:
    with faulty_site(tmp_path) as running:
        assert login(running.url).status == 200
        yield running


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_to_every_process_costs_nothing(logged_in: FaultySite, number: signal.Signals) -> None:
    """A terminal that closes sends SIGHUP so, and a supervisor may send any signal."""
    loader = logged_in.loader
    worker = loader.worker_pid
    os.killpg(loader.master_pid, number)
    poll(lambda: refusals(loader, number) == 1, SECONDS, "a refusal in the log")
    assert call(logged_in.url, "GET", "/status").json()["authenticated"] is True
    assert children(loader.master_pid) == [worker]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_no_signal_to_the_master_makes_a_second_process(logged_in: FaultySite, number: signal.Signals) -> None:
    loader = logged_in.loader
    worker = loader.worker_pid
    loader.process.send_signal(number)
    poll(lambda: refusals(loader, number) == 1, SECONDS, "a refusal in the log")
    loader.process.send_signal(number)
    poll(lambda: refusals(loader, number) == 2, SECONDS, "a second refusal in the log")
    assert children(loader.master_pid) == [worker]
    assert call(logged_in.url, "GET", "/status").json()["authenticated"] is True


def refusals(loader: LoaderServer, number: signal.Signals) -> int:
    return sum(f"refusing {number.name}" in line["message"] for line in loader.log_lines())
