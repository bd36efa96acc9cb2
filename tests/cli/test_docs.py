"""docs/cli.md against the program: help texts, exit codes and shell completion."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from loader.cli.main import exit_code, main
from loader.errors import BY_CODE, CommandFault, ImageNotFound
from loader.web.replies import STATUS_BY_CODE
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env

DOCUMENT = (REPOSITORY / "docs" / "cli.md").read_text()
PROGRAM = "azaion-loader"
CODES_OF_THE_COMMAND_LINE = {code for code, kind in BY_CODE.items() if issubclass(kind, CommandFault | ImageNotFound)}


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, *path, name)


def help_text(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(main, [*path, "--help"], prog_name=PROGRAM, env={"COLUMNS": "80", "LOADER_URL": None})
    assert result.exit_code == 0
    return result.output


COMMANDS = list(commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_document_has_the_help_of_each_command(path: tuple[str, ...]) -> None:
    line = " ".join(("$", PROGRAM, *path, "--help"))
    assert f"```\n{line}\n{help_text(path)}```\n" in DOCUMENT


def test_the_document_has_only_commands_that_exist() -> None:
    documented = re.findall(rf"^\$ {PROGRAM}(.*) --help$", DOCUMENT, re.MULTILINE)
    assert documented == [" ".join(("", *path)) for path in COMMANDS]


def documented_exit_codes() -> dict[str, int]:
    rows = re.findall(r"^\| (\d) \|[^|]*\| ([A-Z_, ]*) \|$", DOCUMENT, re.MULTILINE)
    return {code: int(number) for number, codes in rows for code in codes.split(", ")}


def test_each_error_code_has_the_exit_code_in_the_document() -> None:
    documented = documented_exit_codes()
    assert documented.keys() == STATUS_BY_CODE.keys() | CODES_OF_THE_COMMAND_LINE
    assert {code: exit_code(code) for code in documented} == documented


def test_an_unknown_error_code_has_exit_code_1() -> None:
    assert exit_code("TEAPOT") == exit_code("NOT_FOUND") == 1


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A script like the one that `pip install` writes."""
    path = tmp_path / "azaion-loader"
    path.write_text(f"#!{sys.executable}\nfrom loader.cli.main import run\nrun()\n")
    path.chmod(0o755)
    return path


def bash(installed: Path, script: str) -> str:
    path = f"{installed.parent}:{clean_env(installed.parent)['PATH']}"
    environment = {**clean_env(installed.parent), "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (
            "",
            {
                "serve",
                "status",
                "log",
                "login",
                "lock",
                "unlock",
                "ready",
                "load",
                "upload",
                "models",
                "cache",
                "key",
                "sign",
                "images",
                "resources",
            },
        ),
        ("cache v", {"verify"}),
    ],
)
def test_bash_completes(installed: Path, words: str, completed: set[str]) -> None:
    (setup,) = re.findall(r"^eval .*bash_source.*$", DOCUMENT, re.MULTILINE)
    typed = words.split(" ")
    script = f"""
        {setup}
        complete -p azaion-loader > /dev/null
        COMP_WORDS=(azaion-loader {" ".join(word or "''" for word in typed)})
        COMP_CWORD={len(typed)}
        _azaion_loader_completion azaion-loader
        echo "${{COMPREPLY[@]}}"
    """
    assert set(bash(installed, script).split()) == completed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_have_a_completion_script(installed: Path, shell: str) -> None:
    assert "azaion-loader" in bash(installed, f"_AZAION_LOADER_COMPLETE={shell}_source azaion-loader")
