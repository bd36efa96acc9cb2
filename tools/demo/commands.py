"""Commands: the demo shows them as a user would type them, and runs exactly these. Installs missing programs, too."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import interrupts
from .screen import Screen

REPOSITORY = Path(__file__).parents[2]
COMMAND_SECONDS = 900
END_SECONDS = 5
LINE_WIDTH = 100

KEPT_VARIABLES = ("HOME", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "http_proxy", "https_proxy", "all_proxy")
# The PATH of `su` without a dash does not include the directory of dockerd.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class StepFailed(Exception):
    """A step failed. `str()` says what was expected and what came instead."""


@dataclass(frozen=True)
class Command:
    """A command with its variables and its line of standard input."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    line_in: str | None = None

    def __str__(self) -> str:
        """Return the command in shell syntax, on several lines if it is long."""
        units = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        if self.line_in is not None:
            units.insert(0, f"echo {shlex.quote(self.line_in)} |")
        return " \\\n".join(_filled(units + _options_with_values(self.arguments)))


def python(*arguments: str, line_in: str | None = None, **variables: str) -> Command:
    """Return the `python` of the virtual environment that runs the demo."""
    # Do not resolve the link in .venv/bin, because its target does not find the packages of the environment.
    executable = Path(sys.executable)
    shown = executable.relative_to(REPOSITORY) if executable.is_relative_to(REPOSITORY) else executable
    return Command((str(shown), *arguments), variables, line_in)


def environment(directory: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: `variables` and a few of the user's, but none that configures the loader.

    Temporary files go below `directory`, which is removed at the end.
    """
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
    # Keep the user's proxy, because apt-get may need it; the servers of the demo are on this machine.
    direct = ",".join(filter(None, [os.environ.get("no_proxy"), "localhost", "127.0.0.1"]))
    fixed = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "TMPDIR": str(directory), "no_proxy": direct}
    return {**kept, **fixed, **variables}


def run(command: Command, directory: Path) -> str:
    """Return the output of the command. Raises StepFailed with its standard error unless it exits with 0."""
    with interrupts.shielded():
        process = subprocess.Popen(
            command.arguments,
            cwd=REPOSITORY,
            env=environment(directory, command.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Start a session, because Ctrl-C must not reach this process; the demo ends it.
            start_new_session=True,
        )
    given = None if command.line_in is None else command.line_in + "\n"
    with process:
        try:
            printed, complaints = process.communicate(given, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise StepFailed(f"expected an end of `{command}` within {COMMAND_SECONDS} s") from exc
        finally:
            end(process)
    if process.returncode != 0:
        raise StepFailed(f"expected `{command}` to succeed, but it ended with {process.returncode}\n{complaints}")
    return printed


def end(process: subprocess.Popen[str]) -> None:
    """Terminate the process; kill it if it does not end in time. Does nothing if it has ended."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _options_with_values(arguments: Iterable[str]) -> list[str]:
    """Return the quoted arguments in groups that stay on one line: an option and its value."""
    units: list[str] = []
    for index, argument in enumerate(arguments):
        if index == 0 or (index > 1 and argument.startswith("-")):
            units.append(shlex.quote(argument))
        else:
            units[-1] += f" {shlex.quote(argument)}"
    return units


def _filled(units: Iterable[str]) -> list[str]:
    """Join the groups into lines of about LINE_WIDTH characters."""
    lines: list[str] = []
    for unit in units:
        if lines and len(lines[-1]) + 1 + len(unit) <= LINE_WIDTH:
            lines[-1] += f" {unit}"
        else:
            lines.append(unit)
    return lines


class CannotInstall(Exception):
    """A missing program cannot be installed; the text says why and what to do."""


def ensure_program(screen: Screen, directory: Path, program: str, package: str) -> None:
    """Install `package` with apt-get if `program` is missing; raises CannotInstall where that is not possible."""
    if _is_there(program):
        return
    advice = f"{program} is not installed (package {package} on Debian and Ubuntu)"
    if os.geteuid() != 0:
        raise CannotInstall(f"{advice}, and only root can install it")
    if not (_is_debian_or_ubuntu() and _is_there("apt-get")):
        raise CannotInstall(f"{advice}, and only on those can the demo install it")
    screen.say(f"{program} is missing; the package {package} is installed now, and stays when the demo ends:")
    try:
        _install(screen, directory, package)
    except StepFailed as exc:
        raise CannotInstall(f"{advice}, and it cannot be installed: {exc}") from exc
    if not _is_there(program):
        raise CannotInstall(f"{advice}, although apt-get has installed that package")


def _install(screen: Screen, directory: Path, package: str) -> None:
    apt_get = ("apt-get", "--quiet")
    quietly = {"DEBIAN_FRONTEND": "noninteractive"}
    install = Command((*apt_get, "install", "--yes", "--no-install-recommends", package), quietly)
    update = Command((*apt_get, "update"))
    screen.command(str(update))
    run(update, directory)
    screen.command(str(install))
    run(Command((*install.arguments, "--download-only"), quietly), directory)
    # Delay Ctrl-C, because it would leave the packages of the system half configured.
    with interrupts.shielded():
        run(install, directory)


def _is_there(program: str) -> bool:
    return shutil.which(program, path=SEARCH_PATH) is not None


def _is_debian_or_ubuntu() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return not {"debian", "ubuntu"}.isdisjoint([release["ID"], *release.get("ID_LIKE", "").split()])
