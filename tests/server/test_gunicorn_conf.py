"""One process, whatever the command line, the environment or a signal ask for; and JSON on every line."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import StartLoader
from tests.support.http_calls import call
from tests.support.http_probe import http_status
from tests.support.loader_server import run_python
from tests.support.processes import free_port, poll
from tests.support.procfs import children

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "env", "sentence"),
    [
        (["-w", "4"], {}, "exactly one worker"),
        (["--workers=2"], {}, "exactly one worker"),
        ([], {"GUNICORN_CMD_ARGS": "--workers=3"}, "exactly one worker"),
        (["-w", "0"], {}, "exactly one worker"),
        (["-k", "sync", "--threads", "1"], {}, "must be loader.server.worker.Worker"),
        (["-k", "gthread"], {}, "must be loader.server.worker.Worker"),
    ],
)
def test_more_than_one_process_is_refused_at_start(
    tmp_path: Path, arguments: list[str], env: dict[str, str], sentence: str
) -> None:
    command = ("-m", "gunicorn", "-c", "gunicorn.conf.py", *arguments, "wsgi:app")
    ended = run_python(tmp_path, *command, LOADER_BIND=f"127.0.0.1:{free_port()}", **env)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_web_concurrency_does_not_add_workers(start_loader: StartLoader) -> None:
    loader = start_loader(WEB_CONCURRENCY="4")
    assert len(children(loader.master_pid)) == 1


def test_sigttin_does_not_add_workers(start_loader: StartLoader) -> None:
    loader = start_loader()
    worker = loader.worker_pid
    loader.process.send_signal(signal.SIGTTIN)
    poll(lambda: any("refusing 2 workers" in line["message"] for line in loader.log_lines()), 10, "a refusal")
    assert children(loader.master_pid) == [worker]
    assert http_status(loader.url, "/health") == 200


def test_there_is_no_control_socket(start_loader: StartLoader) -> None:
    loader = start_loader()
    home = loader.process.stderr_path.parent
    assert not list(home.rglob("*.ctl"))


def test_it_listens_on_a_unix_socket(start_loader: StartLoader, tmp_path: Path) -> None:
    loader = start_loader(LOADER_BIND=f"unix:{tmp_path}/loader.sock")
    assert http_status(loader.url, "/health") == 200


@pytest.mark.parametrize("prefix", ["/nowhere", "/cache"])
def test_nobody_says_by_a_header_which_part_of_a_path_counts(start_loader: StartLoader, prefix: str) -> None:
    url = start_loader().url
    assert call(url, "GET", "/health", headers={"SCRIPT_NAME": prefix}).status == 200
    assert call(url, "GET", f"{prefix}/health", headers={"SCRIPT_NAME": prefix}).status == 404


def test_threads_come_from_the_settings(tmp_path: Path) -> None:
    command = ("-m", "gunicorn", "-c", "gunicorn.conf.py", "--print-config", "wsgi:app")
    shown = run_python(tmp_path, *command, LOADER_THREADS="7")
    assert shown.returncode == 0
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    assert {name.strip(): value.strip() for name, value in values.items()}["threads"] == "7"


def test_the_application_is_imported_before_the_worker_is_forked(start_loader: StartLoader) -> None:
    """Both processes would otherwise have a copy: 60 MiB in place of 47."""
    loader = start_loader()
    (worker,) = children(loader.process.pid)
    both = [set(Path(f"/proc/{pid}/maps").read_text().split()) for pid in (loader.process.pid, worker)]
    # A library of C that only Flask needs.
    assert all(any("markupsafe" in word for word in maps) for maps in both)


def test_every_line_is_json_and_access_lines_have_fields(start_loader: StartLoader) -> None:
    loader = start_loader(LOG_LEVEL="DEBUG")
    assert http_status(loader.url, "/nowhere?token=planted-in-a-query") == 404

    def access() -> list[dict[str, object]]:
        return [line for line in loader.log_lines() if line["logger"] == "gunicorn.access" and line["status"] == "404"]

    poll(lambda: bool(access()), 10, "the access line")
    (line,) = access()
    assert (line["method"], line["path"]) == ("GET", "/nowhere")
    assert line["request_id"]
    assert loader.stop() == 0
    assert all({"timestamp", "level", "logger", "message", "request_id"} <= set(line) for line in loader.log_lines())
    assert "planted-in-a-query" not in loader.process.stderr()
    assert loader.process.stdout() == ""


def test_sigterm_ends_it_soon_with_exit_code_0(start_loader: StartLoader) -> None:
    loader = start_loader()
    loader.process.send_signal(signal.SIGTERM)
    assert loader.process.wait(10) == 0
