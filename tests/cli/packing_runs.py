"""Runs of the commands of the machine that ships images, in this process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from loader.cli.main import main

NO_ENGINE = "unix:///nonexistent/docker.sock"


def invoke(*arguments: str | Path, engine: str = NO_ENGINE) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env={"DOCKER_HOST": engine})


def assert_refused(result: Result, code: str, exit_code: int) -> None:
    """The command has printed one line with the error, and has ended with its exit code."""
    assert result.exit_code == exit_code
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(f" ({code})\n")
    assert result.stderr.count("\n") == 1
