"""`python -m tools.demo`: what it prints, how it ends, and that it leaves no process and no file behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.http_calls import call
from tests.support.http_probe import http_status
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env

REPOSITORY = Path(__file__).parents[2]
SYSTEM_DOCKER = "unix:///var/run/docker.sock"
DEAD_ENGINE = "unix:///nonexistent/docker.sock"
RUN_SECONDS = 120.0
END_SECONDS = 30.0
SERVING = "The demo keeps serving."
NOTHING_LEFT = "Ended: no process and no file of the demo is left."

STEPS_WITHOUT_ENGINE = [
    "A model to ship",
    "The resource API",
    "The loader",
    "Log in",
    "Upload the model",
    "Load it back",
]
STEPS = ["A Docker engine", "An image to ship", *STEPS_WITHOUT_ENGINE, "Unlock: fetch", "The image is in the engine"]


class StartDemo(Protocol):
    """The type of the fixture `start_demo`."""

    def __call__(self, **env: str) -> ManagedProcess:
        """Start the demo with `env` on top of a clean environment."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Yield a TMPDIR for the demo. Its path is short, because the engine creates unix sockets deep inside it."""
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def start_demo(tmp_path: Path, scratch: Path) -> Iterator[StartDemo]:
    """Yield a function that starts demos, which are stopped after the test."""
    with ExitStack() as running:

        def start(**env: str) -> ManagedProcess:
            command = [sys.executable, "-m", "tools.demo"]
            values = clean_env(tmp_path, **{"TMPDIR": str(scratch), **env})
            return running.enter_context(ManagedProcess("demo", command, tmp_path, env=values, cwd=REPOSITORY))

        yield start


@pytest.fixture
def _engine_possible() -> None:
    """Call `missing` unless the demo can find an engine or start one."""
    can_start = os.geteuid() == 0 and shutil.which("dockerd") is not None
    if not can_start and http_status(SYSTEM_DOCKER, "/_ping") != 200:
        missing("docker engine", f"no root or no dockerd, and {SYSTEM_DOCKER} does not respond")


@pytest.mark.usefixtures("_engine_possible")
def test_with_once_the_demo_shows_every_step_and_exits_with_0(start_demo: StartDemo, scratch: Path) -> None:
    demo = start_demo(ONCE="1")
    assert demo.wait(RUN_SECONDS) == 0, demo.stdout()
    output = demo.stdout()
    for step in STEPS:
        assert re.search(rf"^ ?\d+\. {step}", output, re.MULTILINE), step
    assert '"state":"ready"' in output
    assert "\x1b" not in output, "colours are for terminals"
    assert SERVING not in output
    assert "for a browser" not in output
    _assert_nothing_left(demo, scratch)


@pytest.mark.long
@pytest.mark.usefixtures("_engine_possible")
def test_the_demo_keeps_serving_until_ctrl_c(start_demo: StartDemo, scratch: Path) -> None:
    demo = start_demo()
    demo.wait_until(lambda: SERVING in demo.stdout(), RUN_SECONDS, SERVING)
    (page,) = re.findall(r"^The device's page, for a browser: (http://127\.0\.0\.1:\d+)/$", demo.stdout(), re.MULTILINE)
    assert "<title>Azaion Loader</title>" in call(page, "GET", "/").body.decode()
    suggestions = _suggested_commands(demo.stdout())
    assert len(suggestions) == 7
    outputs = [_run_in_shell(command) for command in suggestions if not command.startswith("tail")]
    assert '"authenticated":true' in outputs[0]
    assert "LOGIN_REJECTED" in outputs[1]
    assert '"state":"ready"' in outputs[-1]
    demo.send_signal(signal.SIGINT)
    assert demo.wait(END_SECONDS) == 0
    _assert_nothing_left(demo, scratch)


@pytest.mark.usefixtures("_engine_possible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["A Docker engine", "images pack"])
def test_a_signal_during_a_step_leaves_no_process_and_no_file(
    moment: str, number: signal.Signals, start_demo: StartDemo, scratch: Path
) -> None:
    demo = start_demo()
    demo.wait_until(lambda: moment in demo.stdout(), RUN_SECONDS, moment)
    demo.send_signal(number)
    # Send the signal twice, because an impatient user presses Ctrl-C again and the demo must still clean up.
    demo.send_signal(number)
    assert demo.wait(END_SECONDS) == 128 + number
    _assert_nothing_left(demo, scratch)


@pytest.mark.long
def test_the_demo_does_not_replace_a_dead_engine_that_docker_host_names(start_demo: StartDemo, scratch: Path) -> None:
    demo = start_demo(ONCE="1", DOCKER_HOST=DEAD_ENGINE)
    assert demo.wait(RUN_SECONDS) == 1
    output = demo.stdout()
    assert f"no Docker engine: {DEAD_ENGINE} does not answer: No such file or directory" in output
    assert "dockerd" not in output
    for step in [*STEPS_WITHOUT_ENGINE, "Unlock: left out, because there is no Docker engine"]:
        assert re.search(rf"^ ?\d+\. {step}", output, re.MULTILINE), step
    assert "ok: the same bytes" in output
    _assert_nothing_left(demo, scratch)


def test_a_failed_step_shows_what_was_expected_and_the_logs(
    start_demo: StartDemo, scratch: Path, tmp_path: Path
) -> None:
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text("#!/bin/sh\necho 'curl: (7) made to fail' >&2\nexit 7\n")
    curl.chmod(0o755)
    demo = start_demo(DOCKER_HOST=DEAD_ENGINE, PATH=f"{curl.parent}:{os.environ['PATH']}")
    assert demo.wait(RUN_SECONDS) == 1
    output = demo.stdout()
    assert re.search(r"failed: expected `curl .*ended with 7\ncurl: \(7\) made to fail", output, re.DOTALL)
    assert re.search(r'The end of .*/loader\.log:\n +\{"timestamp"', output)
    _assert_nothing_left(demo, scratch)


def _assert_nothing_left(demo: ManagedProcess, scratch: Path) -> None:
    assert demo.stdout().endswith(f"{NOTHING_LEFT}\n")
    assert demo.stderr() == ""
    assert list(scratch.iterdir()) == []
    assert _processes_with(str(scratch)) == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def _processes_with(text: str) -> list[str]:
    """Return the command lines of all processes with `text` in their command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command_line = (process / "cmdline").read_bytes()
            everything = command_line + (process / "environ").read_bytes()
        except OSError:  # ended since the listing, or owned by another user
            continue
        if text.encode() in everything:
            found.append(command_line.decode(errors="replace"))
    return found


def _suggested_commands(output: str) -> list[str]:
    """Return the commands that the demo prints after its steps, each after a `$`, with their continuation lines."""
    suggestions = output.partition("Things to try")[2]
    return re.findall(r"^ +\$ ((?:.*\\\n)*.*)$", suggestions, re.MULTILINE)


def _run_in_shell(command: str) -> str:
    """Run a command in the repository's directory, and return its output. Raises CalledProcessError if it fails."""
    return subprocess.run(["bash", "-c", command], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
