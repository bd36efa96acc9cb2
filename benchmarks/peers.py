"""Programs that run in a process of their own: which of them are installed, and how each is called."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Contender, Missing, nothing

RUN_SECONDS = 900
MESSAGE_CHARACTERS = 2_000
REPOSITORY = Path(__file__).parents[1]


class RunFailed(Exception):
    """A measured command failed, so that its time means nothing."""


def require_program(name: str) -> None:
    """Raise Missing unless PATH has the program."""
    if shutil.which(name) is None:
        raise Missing(f"{name} (not installed)")


def require_module(name: str) -> None:
    """Raise Missing unless the Python package can be imported."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"the Python package {name} (not installed)")


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run `command` in the repository and discard its output. Raises RunFailed unless it exits with 0."""
    done = subprocess.run(
        command,
        env=env,
        cwd=REPOSITORY,
        check=False,
        timeout=RUN_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        message = done.stderr.decode(errors="replace")[-MESSAGE_CHARACTERS:]
        raise RunFailed(f"{command[0]} exited with {done.returncode}: {message}")


def process(
    name: str,
    mib: int,
    command: Sequence[str],
    prepare: Callable[[], None] = nothing,
    env: Mapping[str, str] | None = None,
) -> Contender:
    """Return a contender that is a whole process, whose start counts."""

    def run_once() -> None:
        run(command, env)

    return Contender(name, mib, run_once, prepare)


def piped(*commands: Sequence[str]) -> list[str]:
    """Return a command that pipes each of `commands` into the next and fails if one of them fails."""
    return ["bash", "-o", "pipefail", "-c", " | ".join(map(shlex.join, commands))]


def python(module: str, *arguments: str | Path) -> list[str]:
    """Return the command line of a Python module of this repository."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def curl(*arguments: str | Path) -> list[str]:
    """Return a curl command that discards the body and fails for an HTTP error or a cut body. Raises Missing."""
    require_program("curl")
    return ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", *map(str, arguments)]
