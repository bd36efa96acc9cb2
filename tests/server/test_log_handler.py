"""The log handler: a reader that stops, leaves or comes back costs at most some lines, and stops nobody."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from loader.server import log_handler
from loader.server.log_handler import MAX_WAITING_LINES, LogHandler
from tests.support.loader_server import REPOSITORY
from tests.support.processes import poll
from tests.support.procfs import open_descriptors
from tests.support.small_disk import fill, small_disk

SECONDS = 20.0
ENDS = ("pipe", "socket", "terminal")


class Reader:
    """Both ends of a stderr that a test reads when it likes."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self.reads, self.writes = os.pipe()
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            self.reads, self.writes = ours.detach(), theirs.detach()
        else:
            self.reads, self.writes = pty.openpty()
        self.handler = LogHandler(self.writes)
        self.read = b""
        self._thread: threading.Thread | None = None

    def log(self, text: str) -> None:
        """Write one line."""
        self.handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))

    def start_to_read(self) -> None:
        """Read on in a thread until the end."""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while piece := os.read(self.reads, 1 << 20):
                self.read += piece

    def lines(self, last: str) -> list[str]:
        """Return the lines so far, once `last` is the last one."""
        poll(lambda: self.read.rstrip().endswith(last.encode()), SECONDS, f"{last} is read")
        return self.read.decode().splitlines()

    def close(self) -> None:
        """Close both ends."""
        self.handler.close()
        os.close(self.writes)
        if self._thread is not None:
            self._thread.join(SECONDS)
        os.close(self.reads)


@pytest.fixture(params=ENDS)
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    with closing(Reader(request.param)) as made:
        yield made
        # Nothing must write to a descriptor that a later test may own.
        if made._thread is None:
            made.start_to_read()
        poll(lambda: not made.handler._thread_runs, SECONDS, "all lines are written")


def test_lines_are_written_at_once_and_in_order(reader: Reader) -> None:
    for number in range(100):
        reader.log(f"line-{number}")
    assert not reader.handler._thread_runs
    reader.start_to_read()
    assert reader.lines("line-99") == [f"line-{number}" for number in range(100)]


@pytest.mark.parametrize("length", [1, 100, 4093, 4094, 4095, 4096, 4097, 100_000])
def test_a_reader_that_stops_for_a_while_loses_nothing(reader: Reader, length: int) -> None:
    lines = [f"{number}-{'x' * length}" for number in range(40)]
    for line in lines:
        reader.log(line)
    reader.log("end")
    reader.start_to_read()
    assert reader.lines("end") == [*lines, "end"]


def test_of_a_log_that_nobody_reads_lines_are_dropped_and_counted(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_handler, "MAX_WAITING_LINES", 50)
    text = "x" * 5000
    for number in range(500):
        reader.log(f"{number}-{text}")
    reader.start_to_read()
    poll(lambda: not reader.handler._waiting, SECONDS, "all lines are written")
    reader.log("again")
    reader.log("and again")
    *kept, notice, again, and_again = reader.lines("and again")
    assert kept == [f"{number}-{text}" for number in range(len(kept))]
    assert notice == f"{500 - len(kept)} log lines were dropped"
    assert (again, and_again) == ("again", "and again")


def test_at_most_a_thousand_lines_wait(reader: Reader) -> None:
    for _ in range(3 * MAX_WAITING_LINES):
        reader.log("x" * 1000)
    assert len(reader.handler._waiting) == MAX_WAITING_LINES


def test_flush_says_what_was_dropped(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "MAX_WAITING_LINES", 2)
    for _ in range(10):
        reader.log("x" * 100_000)
    reader.start_to_read()
    reader.handler.flush()
    assert reader.lines("dropped")[-1].endswith(" log lines were dropped")


def test_flush_waits_for_a_reader_but_not_for_ever(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "LAST_SECONDS", 0.1)
    for _ in range(10):
        reader.log("x" * 100_000)
    reader.handler.flush()
    assert reader.handler._waiting


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_has_left_stops_nobody(kind: str) -> None:
    made = Reader(kind)
    os.close(made.reads)
    for _ in range(100):
        made.log("x" * 5000)
    poll(lambda: not made.handler._thread_runs and not made.handler._waiting, SECONDS, "the lines are dropped")
    made.handler.close()
    os.close(made.writes)


def test_a_closed_handler_keeps_nothing_open_and_still_writes() -> None:
    reads, writes = os.pipe()
    before = open_descriptors(os.getpid())
    handler = LogHandler(writes)
    assert open_descriptors(os.getpid()) != before
    handler.close()
    assert open_descriptors(os.getpid()) == before
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "end", (), None))
    handler.flush()
    assert os.read(reads, 100) == b"end\n"
    os.close(reads)
    os.close(writes)


def log(handler: LogHandler, *lines: str) -> None:
    for line in lines:
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, line, (), None))


def test_a_reader_that_comes_back_learns_how_many_lines_are_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    first = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    writes = os.open(tmp_path / "log", os.O_WRONLY)
    handler = LogHandler(writes)
    os.close(first)
    log(handler, *["lost"] * 7)
    second = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log(handler, "end")
    assert os.read(second, 1 << 16) == b"7 log lines were dropped\nend\n"
    handler.close()
    os.close(writes)
    os.close(second)


@pytest.mark.parametrize("length", [10, 3000, 70_000])
def test_on_a_full_disk_lines_are_counted_and_none_is_glued_to_another(tmp_path: Path, length: int) -> None:
    with small_disk(tmp_path / "disk", 1 << 18) as disk:
        fill(disk, leave=50_000)
        with (disk / "log").open("ab") as file:
            handler = LogHandler(file.fileno())
            lines = [f"{number}-{'x' * length}" for number in range(10 + 300_000 // length)]
            log(handler, *lines)
            handler.flush()
            (disk / "filler").unlink()
            log(handler, "end", "again")
            handler.flush()
        written = (disk / "log").read_text().splitlines()
    whole = [line for line in written if line in lines]
    assert whole == lines[: len(whole)]
    # At most one line is cut, at its end.
    *_, notice, end, again = written
    assert (notice, end, again) == (f"{len(lines) - len(whole)} log lines were dropped", "end", "again")
    assert len(written) - len(whole) - 3 in (0, 1)


@pytest.mark.parametrize("length", [100, 5000])
def test_a_pipe_that_somebody_has_made_non_blocking_loses_nothing(length: int) -> None:
    with closing(Reader("pipe")) as made:
        os.set_blocking(made.writes, False)
        lines = [f"{number}-{'x' * length}" for number in range(900)]
        log(made.handler, *lines)
        made.start_to_read()
        log(made.handler, "end")
        assert made.lines("end") == [*lines, "end"]


# Both processes write to one pipe: a longer line than this may be cut by one of the other process.
LONGEST_WHOLE_LINE = select.PIPE_BUF - 1
FORK = f"""
import logging, os, sys
from loader.server import log_handler
log_handler.LAST_SECONDS = 20.0
handler = log_handler.LogHandler()
log = lambda text: handler.handle(logging.LogRecord("x", 20, "", 0, text, (), None))
for _ in range(40):
    log("x" * {LONGEST_WHOLE_LINE})
print("full", flush=True)
pid = os.fork()
log("parent" if pid else "child")
handler.flush()
os.waitpid(pid, 0) if pid else os._exit(0)
"""


def test_a_new_process_writes_no_line_of_its_parent() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"full\n"
        written = process.communicate(timeout=SECONDS)[1].decode().split()
    assert process.returncode == 0
    assert sorted(written) == sorted(["x" * LONGEST_WHOLE_LINE] * 40 + ["child", "parent"])


def test_a_file_gets_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        handler = LogHandler(file.fileno())
        for number in range(100):
            handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line-{number}", (), None))
    assert (tmp_path / "log").read_text().split() == [f"line-{number}" for number in range(100)]


def test_other_users_of_the_pipe_may_still_wait() -> None:
    with closing(Reader("pipe")) as made:
        made.log("x")
        assert not fcntl.fcntl(made.writes, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_stderr_that_cannot_be_opened_anew_is_written_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("it belongs to another user")

    reads, writes = os.pipe()
    monkeypatch.setattr(os, "open", refuse)
    handler = LogHandler(writes)
    for number in range(3):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line-{number}", (), None))
    handler.flush()
    assert os.read(reads, 1000).split() == [b"line-0", b"line-1", b"line-2"]
    os.close(reads)
    os.close(writes)


def test_without_stderr_no_line_is_written_anywhere(tmp_path: Path) -> None:
    """The next file that the process opens gets the number of stderr."""
    script = (
        "import logging, loader.server.log_handler as h; other = open('other', 'w'); assert other.fileno() == 2\n"
        "h.LogHandler().handle(logging.LogRecord('x', 20, '', 0, 'line', (), None))"
    )
    command = ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, script]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, check=True)
    assert (tmp_path / "other").read_text() == ""


def test_a_line_that_cannot_be_formatted_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(Reader("pipe")) as made:
        made.handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None))
        made.log("end")
        made.start_to_read()
        assert made.lines("end") == [
            "1 log lines were dropped",
            "end",
        ]
    assert capfd.readouterr().err == ""
