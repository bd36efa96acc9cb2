"""The imports of the device commands, which must start fast because scripts run them often."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.loader_server import REPOSITORY

SLOW_TO_IMPORT = {
    *("flask", "werkzeug", "marshmallow", "gunicorn", "docker", "requests", "urllib3", "Crypto"),
    *("loader.app", "loader.packing", "loader.docker_engine"),
}
SCRIPT = """
import sys
from loader.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
COMMANDS = (
    "status",
    "login --email operator@example.com",
    "lock",
    "unlock --email operator@example.com",
    "unlock --plan",
    "load day/model -o -",
    "upload LICENSE day",
    "cache list",
    "cache verify",
    "cache clear",
)


def imported(*arguments: str) -> set[str]:
    """Run a command, and return the names of the modules that it has imported."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, input="password\n", check=False)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_command_imports_nothing_that_is_slow_to_import(command: str) -> None:
    modules = imported(*command.split(), "--url", "unix:/nonexistent/loader.sock")
    assert "loader.cli.client" in modules
    assert modules.isdisjoint(SLOW_TO_IMPORT)


def test_a_packing_command_imports_what_it_needs() -> None:
    """Without this test, the one above could pass because it sees no imports."""
    pack = ("images", "pack", "--from", "LICENSE", "--key", "LICENSE", "-o", "/nonexistent/images.enc")
    assert imported(*pack) >= {"docker", "Crypto", "loader.packing.pack"}


@pytest.mark.parametrize("command", ["show LICENSE", "thin LICENSE --base LICENSE -o x", "install LICENSE"])
def test_a_command_of_archives_needs_no_engine(command: str) -> None:
    modules = imported("images", *command.split())
    assert "loader.binary_split" in modules
    assert modules.isdisjoint({"docker", "requests", "flask"})
