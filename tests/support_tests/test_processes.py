"""Tests poll until a process is ready, read its output, and stop it together with its children."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.http_probe import http_status
from tests.support.processes import ManagedProcess, ProcessEnded, clean_env, free_port, poll
from tests.support.procfs import (
    children,
    descendants,
    is_running,
    open_descriptors,
    peak_rss_bytes,
    pss_bytes,
    reset_peak_rss,
    thread_count,
)

MIB = 1024 * 1024
STUBBORN_PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
time.sleep(600)
"""


def python(directory: Path, code: str) -> ManagedProcess:
    return ManagedProcess("python", [sys.executable, "-c", code], directory, env=clean_env(directory))


def test_poll_fails_with_the_message_after_the_deadline() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: pigs fly"):
        poll(lambda: False, 0.05, "pigs fly")


def test_waiting_ends_when_the_server_responds(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    assert http_status(url) is None
    with ManagedProcess("server", command, tmp_path, env=clean_env(tmp_path), cwd=tmp_path) as server:
        server.wait_until(lambda: http_status(url) == 200, 10, "the server responds")
        assert http_status(url, "/nothing") == 404
    assert server.returncode == -signal.SIGTERM
    assert '"GET /nothing HTTP/1.1" 404' in server.stderr()


def test_waiting_fails_at_once_with_the_output_if_the_process_ends(tmp_path: Path) -> None:
    process = python(tmp_path, "raise SystemExit('no such luck')")
    with pytest.raises(ProcessEnded, match="python ended with 1 before the server responds\nno such luck"):
        process.wait_until(lambda: False, 10, "the server responds")


def test_the_environment_of_the_shell_does_not_reach_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere")
    with python(tmp_path, "import os; print(os.environ.get('DOCKER_HOST'))") as process:
        process.wait(10)
    assert process.stdout() == "None\n"


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    process = python(tmp_path, STUBBORN_PARENT)
    process.wait_until(lambda: "started" in process.stdout(), 10, "the child runs")
    (child,) = children(process.pid)
    assert process.stop(grace_seconds=0.1) == -signal.SIGKILL
    poll(lambda: not is_running(child), 5, "the child ended")


def test_procfs_returns_memory_threads_and_descriptors() -> None:
    own = os.getpid()
    reset_peak_rss(own)
    before = peak_rss_bytes(own)
    ballast = bytearray(os.urandom(32 * MIB))
    # Allow 1 MiB less, because the kernel counts pages in batches per thread.
    assert peak_rss_bytes(own) - before >= 31 * MIB
    assert 32 * MIB < pss_bytes(own) < before + 64 * MIB
    del ballast
    reset_peak_rss(own)
    assert peak_rss_bytes(own) - before < 32 * MIB
    assert thread_count(own) >= 1
    assert own in descendants(os.getppid())
    with Path("/dev/zero").open("rb") as zero:
        assert open_descriptors(own)[zero.fileno()] == "/dev/zero"
