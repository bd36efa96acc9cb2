"""Every azaion-loader and azaion-resource-api command that a document shows has a command and options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from loader.cli.main import main as loader_cli
from resource_api.cli import main as resource_api_cli
from tests.project.test_documents import DOCUMENTS, ROOT
from tests.support.processes import clean_env

PROGRAMS: dict[str, click.Command] = {"azaion-loader": loader_cli, "azaion-resource-api": resource_api_cli}
# A code block or code in a line, and a command in it: up to the end of a pipe's part.
_CODE = re.compile(r"^```\w*\n(.*?)^```|(?<!`)`([^`]+)`(?!`)", re.DOTALL | re.MULTILINE)
# Labels of docs/formats.md, which are hashed.
LABELS = {"azaion-loader key check v1", "azaion-loader test plaintext"}
_COMMAND = re.compile(r"(?<![\w./=-])(azaion-(?:loader|resource-api) [a-z-][^|;)#]*)")


def command_lines(text: str) -> Iterator[str]:
    """Yield the commands in the code of a document. A backslash and an indented line continue one."""
    for block, inline in _CODE.findall(text):
        for line in re.sub(r"\\\n\s*", "", block or " ".join(inline.split())).splitlines():
            yield from (found.strip() for found in _COMMAND.findall(line) if not line.startswith((" ", "Usage:")))


def unknown(line: str) -> str | None:
    """Return the first word of a command that is no command or option of the program, None if all are."""
    program, *words = shlex.split(re.split(r" [<>]|2>", line)[0])
    command = PROGRAMS[program]
    for word in words:
        context = click.Context(command, **command.context_settings)
        # Not by `get_params`, because click then keeps a help option without -h for all later tests.
        options = {"--help", *(name for each in command.params for name in (*each.opts, *each.secondary_opts))}
        if word.startswith("--"):
            # `serve` of the loader passes the rest on to gunicorn.
            if word.split("=")[0] not in options and not context.ignore_unknown_options:
                return word
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return word
            command = found
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document: Path) -> None:
    lines = {*command_lines(document.read_text())} - LABELS
    assert {line: word for line in lines if (word := unknown(line))} == {}


def test_commands_are_found_and_judged() -> None:
    text = (
        "`azaion-loader status` and\n\n```sh\nazaion-loader images bake \\\n    x | azaion-loader log --sinc 7d\n"
        "azaion-resource-api user add DIR --rolle x < secret\n```\n"
    )
    assert {line: unknown(line) for line in command_lines(text)} == {
        "azaion-loader status": None,
        "azaion-loader images bake x": "bake",
        "azaion-loader log --sinc 7d": "--sinc",
        "azaion-resource-api user add DIR --rolle x < secret": "--rolle",
    }


def test_the_commands_that_set_up_a_resource_api_run(tmp_path: Path) -> None:
    """All of docs/resource-api.md but `serve`, which tests/resource_api starts, and `audit`, which needs a log."""
    lines = [
        line
        for line in command_lines((ROOT / "docs" / "resource-api.md").read_text())
        if line.startswith("azaion-resource-api") and line.split()[1] in ("init", "user", "key") and "/srv/" in line
    ]
    assert {tuple(line.split()[1:3]) for line in lines if " init " not in line} == {("user", "add"), ("key", "new")}
    for line in lines:
        arguments = shlex.split(line.replace("/srv", str(tmp_path)).replace("/mnt", str(tmp_path)))[1:]
        # The directory of objects is for another data directory than that of the first commands.
        if "--storage" in arguments:
            arguments[1] += "-shared"
        command = [sys.executable, "-m", "resource_api", *arguments]
        done = subprocess.run(
            command,
            input="a password\n",
            cwd=tmp_path,
            env=clean_env(tmp_path, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "key-fragment").stat().st_size == 32
    assert (tmp_path / "objects").is_dir()
