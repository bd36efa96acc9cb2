"""Standard input, output and error of the commands: closed, not UTF-8, without a reader, and without a terminal."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.cli import main as command_line
from tests.cli.cli_runs import invoke, terminal
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.loader_server import COMMAND, REPOSITORY, RUN_SECONDS
from tests.support.processes import clean_env
from tests.support.sites import BareSite, bare_site

CONTENT = bytes(range(256)) * 40_000
LOGIN = ("login", "--email", "a@example.com")
NAME = os.fsdecode(b"m\xef\xee.bin")


@pytest.fixture
def fake() -> Iterator[FaultyApi]:
    """A fake loader that accepts every login and upload, and records it."""
    with FaultyApi() as running:
        for path in ("/login", "/unlock"):
            running.answer("POST", path, *[Fault(body=b'{"status": "ok"}')] * 9)
        yield running


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A real loader without an API."""
    with bare_site(tmp_path_factory.mktemp("lonely")) as running:
        yield running


def shell(home: Path, line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash, in which `loader` is the command."""
    script = f'set -o pipefail; loader() {{ {sys.executable} -m loader "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=REPOSITORY,
        env=clean_env(home, PYTHONPATH=str(REPOSITORY), **env),
        capture_output=True,
        timeout=RUN_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "typed",
    [
        *(b"pass word\n", b"pass word", b"pass word\r\n", b"\xef\xbb\xbfpass word\r\n", b"\xef\xbb\xbfpass word"),
        *(b"pass word\r", b"pass word\nnext line\n", b"pass word\r\n\r\n"),
    ],
)
def test_a_password_is_its_line_without_what_windows_adds(fake: FaultyApi, typed: bytes) -> None:
    assert invoke(fake.url, *LOGIN, stdin=typed).exit_code == 0
    assert json.loads(fake.requests()[-1].body)["password"] == "pass word"


@pytest.mark.parametrize("typed", ["  two spaces  ", "пароль", "\ttab\t", "\ufeff\ufeffx"])
def test_nothing_else_of_a_password_is_lost(fake: FaultyApi, typed: str) -> None:
    assert invoke(fake.url, *LOGIN, stdin=typed + "\n").exit_code == 0
    assert json.loads(fake.requests()[-1].body)["password"] == typed.removeprefix("\ufeff")


@pytest.mark.parametrize("command", ["login", "unlock"])
@pytest.mark.parametrize("typed", [b"caf\xe9\n", "\ufeffx\n".encode("utf-16-le"), b"", b"\n", b"\r\n", b"\xef\xbb\xbf"])
def test_what_is_no_password_is_never_sent(fake: FaultyApi, command: str, typed: bytes) -> None:
    done = invoke(fake.url, command, *LOGIN[1:], stdin=typed)
    assert done.exit_code == 2
    assert "password" in done.stderr
    assert fake.requests() == []


@pytest.mark.parametrize("command", ["login", "unlock"])
def test_a_closed_standard_input_has_no_password(lonely: BareSite, tmp_path: Path, command: str) -> None:
    done = shell(tmp_path, f"loader {command} --email a@example.com <&-", LOADER_URL=lonely.url)
    assert done.returncode == 2
    assert b"standard input is closed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_command_that_waits_for_a_password_says_so(lonely: BareSite, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    command = [*COMMAND, *LOGIN]
    env = clean_env(tmp_path, LOADER_URL=lonely.url)
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as typing:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdin=stdin, stderr=subprocess.PIPE)
        with process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"Waiting for the password on standard input.\n"
            typing.write(b"secret\n")
            assert b"API_UNREACHABLE" in process.stderr.read()
    assert process.returncode == 6


@pytest.mark.parametrize("stream", ["0", "1", "2"])
def test_closed_streams_are_no_tracebacks(lonely: BareSite, tmp_path: Path, stream: str) -> None:
    done = shell(tmp_path, f"loader status {stream}>&-", LOADER_URL=lonely.url)
    assert (done.returncode, done.stderr) == (0, b"")
    done = shell(tmp_path, f"loader load day/x -o - {stream}>&-", LOADER_URL=lonely.url)
    assert done.returncode == 5
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("reader", ["head -c 1", "true", "head -c 300000"])
@pytest.mark.parametrize("both", ["", "2>&1"], ids=["output", "output and errors"])
def test_a_reader_that_goes_ends_a_load_as_it_ends_other_tools(
    fake: FaultyApi, tmp_path: Path, reader: str, both: str
) -> None:
    fake.answer("GET", "/models/day/x", Fault(body=CONTENT))
    done = shell(tmp_path, f"loader load day/x -o - {both} | {reader} >/dev/null", LOADER_URL=fake.url)
    assert done.returncode == 128 + signal.SIGPIPE
    assert b"Error" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_gone_ends_a_summary(lonely: BareSite, tmp_path: Path) -> None:
    line = f"mkfifo {tmp_path}/gone; exec 3<>{tmp_path}/gone 4>{tmp_path}/gone 3>&-; loader status >&4"
    done = shell(tmp_path, line, LOADER_URL=lonely.url)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["status", "status --json", "--version", "--help", "log < /dev/null"])
def test_an_output_on_a_full_disk_is_an_error(lonely: BareSite, tmp_path: Path, command: str, unbuffered: str) -> None:
    env = {"LOADER_URL": lonely.url, "PYTHONUNBUFFERED": unbuffered}
    done = shell(tmp_path, f"loader {command} > /dev/full", **env)
    assert (done.returncode, done.stderr) == (8, b"Error: standard output cannot be written: No space left on device\n")


def test_an_error_that_names_a_file_is_not_taken_for_one_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a file")

    monkeypatch.setattr(command_line, "main", failing)
    with pytest.raises(PermissionError, match="a file"):
        command_line.run()


@pytest.mark.parametrize("size", [1, 10_000, 200_000])
def test_a_model_of_any_size_on_a_full_disk_is_an_error(fake: FaultyApi, tmp_path: Path, size: int) -> None:
    fake.answer("GET", "/models/day/x", Fault(body=CONTENT[:size]))
    done = shell(tmp_path, "loader load day/x -o - > /dev/full", LOADER_URL=fake.url)
    assert done.returncode == 8
    assert done.stderr.endswith(b"(DISK_SPACE)\n")


def test_names_that_are_not_utf_8_are_printed_as_they_are(fake: FaultyApi, tmp_path: Path) -> None:
    fake.answer("GET", "/models/day/x", *[Fault(body=CONTENT)] * 2)
    line = f"cd {tmp_path}; loader load day/x -o $'m\\xef\\xee.bin'"
    done = shell(tmp_path, line, LOADER_URL=fake.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"m\xef\xee.bin: 10 MB in ")
    assert (tmp_path / NAME).read_bytes() == CONTENT
    done = shell(tmp_path, f"{line} --json", LOADER_URL=fake.url)
    assert json.loads(done.stdout)["file"] == NAME
    done = shell(tmp_path, f"cd {tmp_path}; loader key new -o $'k\\xff'")
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_upload_of_a_name_that_is_not_utf_8_is_refused_by_name(lonely: BareSite, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"x")
    line = f"cd {tmp_path}; loader upload $'m\\xef\\xee.bin' $'d\\xff'"
    for option in ("", " --json"):
        done = shell(tmp_path, line + option, LOADER_URL=lonely.url)
        assert done.returncode in (4, 5)
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("term", "draws"), [("xterm", True), ("dumb", False), ("", False)])
def test_bars_are_drawn_where_the_terminal_can(fake: FaultyApi, tmp_path: Path, term: str, draws: bool) -> None:
    fake.answer("GET", "/models/day/x", Fault(body=CONTENT))
    arguments = ("load", "day/x", "-o", str(tmp_path / "x"), "--url", fake.url)
    with terminal(tmp_path, *arguments, term=term) as screen:
        assert screen.end() == 0, screen.shown
    assert ("\033" in screen.shown) is draws
    assert "loading day/x" in screen.shown
